// A decoder's steps in C++17: a weight packed once and multiplied on two threads, its tokens put
// into a cache one after the other, each attending to those before. Compared with plain loops in
// double.

#include <masktile.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t tokens = 24, heads = 3, dim = 8, width = heads * dim;

void check(MasktileStatus status)
{
    if (status != MASKTILE_STATUS_OK) throw std::runtime_error(masktile_last_error());
}

std::vector<float> numbers(std::size_t count, unsigned seed)
{
    std::vector<float> data(count);
    for (float &x : data) {
        seed = seed * 1664525u + 1013904223u;
        x = static_cast<float>(seed >> 8) / (1 << 23) - 1.0f;
    }
    return data;
}

MasktileSlice read(const std::vector<float> &data) { return {data.data(), data.size()}; }
MasktileSliceMut write(std::vector<float> &data) { return {data.data(), data.size()}; }

struct FreeParts {
    void operator()(MasktileParts *parts) const { masktile_parts_free(parts); }
};

// x w for tokens x width by width x width, in two parts.
std::vector<float> project(const std::vector<float> &x, const std::vector<float> &w)
{
    std::vector<float> packed(masktile_packed_b_len(width, width)), y(tokens * width);
    check(masktile_pack_b(masktile_view(w.data(), 1, 1, width, width), MASKTILE_ISA_DEFAULT,
                          write(packed)));
    auto matmul = MASKTILE_INIT(MasktileMatmul);
    matmul.a = masktile_view(x.data(), 1, 1, tokens, width);
    matmul.packed_b = read(packed);
    matmul.c = masktile_view_mut(y.data(), 1, 1, tokens, width);

    MasktileParts *made = nullptr;
    check(masktile_matmul_parts(&matmul, 2, &made));
    const std::unique_ptr<MasktileParts, FreeParts> parts(made);
    MasktileStatus statuses[2];
    auto run = [&](std::size_t index) {
        std::vector<float> workspace(masktile_matmul_workspace_len(tokens, width, width));
        statuses[index] = masktile_parts_run(parts.get(), index, write(workspace));
    };
    std::thread other(run, 1);
    run(0);
    other.join();
    for (const MasktileStatus status : statuses) check(status);
    return y;
}

// Token `t` of y, tokens x (heads x dim), as 1 x heads x 1 x dim.
MasktileView token(const std::vector<float> &y, std::size_t t)
{
    return masktile_view(y.data() + t * width, 1, heads, 1, dim);
}

std::vector<float> decode(const std::vector<float> &y)
{
    std::vector<float> keys(tokens * width), values(tokens * width), out(tokens * width);
    std::vector<float> workspace(masktile_attention_workspace_len(1, tokens, dim, dim));
    auto cache = MASKTILE_INIT(MasktileKvCache);
    cache.keys = masktile_view_mut(keys.data(), 1, heads, tokens, dim);
    cache.values = masktile_view_mut(values.data(), 1, heads, tokens, dim);
    for (std::size_t t = 0; t < tokens; t++) {
        check(masktile_kv_cache_append(&cache, token(y, t), token(y, t)));
        auto attention = MASKTILE_INIT(MasktileAttention);
        attention.q = token(y, t);
        attention.out = masktile_view_mut(out.data() + t * width, 1, heads, 1, dim);
        attention.workspace = write(workspace);
        check(masktile_kv_cache_attend(&cache, &attention));
    }
    return out;
}

double greatest_error(const std::vector<float> &x, const std::vector<float> &w,
                      const std::vector<float> &out)
{
    std::vector<double> y(tokens * width, 0.0);
    for (std::size_t i = 0; i < tokens; i++)
        for (std::size_t j = 0; j < width; j++)
            for (std::size_t p = 0; p < width; p++)
                y[i * width + j] += double(x[i * width + p]) * double(w[p * width + j]);
    double greatest = 0.0;
    for (std::size_t i = 0; i < tokens; i++) {
        for (std::size_t h = 0; h < heads; h++) {
            double sum = 0.0;
            std::vector<double> wanted(dim, 0.0);
            for (std::size_t j = 0; j <= i; j++) {
                double score = 0.0;
                for (std::size_t d = 0; d < dim; d++)
                    score += y[i * width + h * dim + d] * y[j * width + h * dim + d];
                const double weight = std::exp(score / std::sqrt(double(dim)));
                sum += weight;
                for (std::size_t d = 0; d < dim; d++)
                    wanted[d] += weight * y[j * width + h * dim + d];
            }
            for (std::size_t d = 0; d < dim; d++) {
                const double given = out[i * width + h * dim + d];
                greatest = std::fmax(greatest, std::fabs(given - wanted[d] / sum));
            }
        }
    }
    return greatest;
}

}  // namespace

int main()
{
    try {
        const auto x = numbers(tokens * width, 1), w = numbers(width * width, 2);
        const double error = greatest_error(x, w, decode(project(x, w)));
        std::printf("%zu steps of a decoder: greatest error %.1e\n", tokens, error);
        return error < 1e-4 ? 0 : 1;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
