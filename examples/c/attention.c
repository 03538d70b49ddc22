/* A padded causal attention layer in C11, compared with plain loops in double. */

#include <masktile.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 2, HEADS = 4, KV_HEADS = 2, TOKENS = 37, DIM = 16 };
enum { GROUP = HEADS / KV_HEADS };

/* How many tokens of each batch are no padding. */
static const size_t lengths[BATCH] = {37, 20};

static float *floats(size_t count)
{
    float *data = malloc(count * sizeof *data);
    if (data == NULL) {
        perror("malloc");
        exit(1);
    }
    return data;
}

static void fill(float *data, size_t count, unsigned seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        data[i] = (float)(seed >> 8) / (float)(1 << 23) - 1.0f;
    }
}

static void check(MasktileStatus status)
{
    if (status != MASKTILE_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", masktile_status_message(status), masktile_last_error());
        exit(1);
    }
}

/* One row of the output by the formula: softmax(q k / sqrt(dim)) v over the keys it may see. */
static void expected(const float *q, const float *k, const float *v, size_t keys, double out[DIM])
{
    double probs[TOKENS], sum = 0.0;
    for (size_t j = 0; j < keys; j++) {
        double score = 0.0;
        for (size_t d = 0; d < DIM; d++)
            score += (double)q[d] * (double)k[j * DIM + d];
        probs[j] = exp(score / sqrt((double)DIM));
        sum += probs[j];
    }
    for (size_t d = 0; d < DIM; d++) {
        out[d] = 0.0;
        for (size_t j = 0; j < keys; j++)
            out[d] += probs[j] / sum * (double)v[j * DIM + d];
    }
}

static double greatest_error(const float *q, const float *k, const float *v, const float *out)
{
    double greatest = 0.0;
    for (size_t row = 0; row < (size_t)BATCH * HEADS * TOKENS; row++) {
        const size_t batch = row / (HEADS * TOKENS), head = row / TOKENS % HEADS;
        const size_t i = row % TOKENS;
        const size_t keys = i + 1 < lengths[batch] ? i + 1 : lengths[batch];
        const size_t kv = (batch * KV_HEADS + head / GROUP) * TOKENS * DIM;
        double wanted[DIM];
        expected(q + row * DIM, k + kv, v + kv, keys, wanted);
        for (size_t d = 0; d < DIM; d++)
            greatest = fmax(greatest, fabs((double)out[row * DIM + d] - wanted[d]));
    }
    return greatest;
}

int main(void)
{
    const size_t heads = (size_t)BATCH * HEADS * TOKENS * DIM;
    const size_t kv_heads = (size_t)BATCH * KV_HEADS * TOKENS * DIM;
    const size_t scratch = masktile_attention_workspace_len(GROUP * TOKENS, TOKENS, DIM, DIM);
    float *q = floats(heads), *k = floats(kv_heads), *v = floats(kv_heads), *out = floats(heads);
    float *workspace = floats(scratch);
    fill(q, heads, 1);
    fill(k, kv_heads, 2);
    fill(v, kv_heads, 3);
    /* What stands behind a mask has no influence. */
    k[((size_t)KV_HEADS * TOKENS + lengths[1]) * DIM] = NAN;

    MasktileMask masks[2] = {MASKTILE_INIT(MasktileMask), MASKTILE_INIT(MasktileMask)};
    masks[0].kind = MASKTILE_MASK_KIND_CAUSAL;
    masks[0].of.offset = (MasktileOffset){.kind = MASKTILE_OFFSET_KIND_TOP_LEFT};
    masks[1].kind = MASKTILE_MASK_KIND_KEY_LENGTHS;
    masks[1].of.lengths = (MasktileSizes){lengths, BATCH};

    MasktileAttention attention = MASKTILE_INIT(MasktileAttention);
    attention.q = masktile_view(q, BATCH, HEADS, TOKENS, DIM);
    attention.k = masktile_view(k, BATCH, KV_HEADS, TOKENS, DIM);
    attention.v = masktile_view(v, BATCH, KV_HEADS, TOKENS, DIM);
    attention.out = masktile_view_mut(out, BATCH, HEADS, TOKENS, DIM);
    attention.workspace = (MasktileSliceMut){workspace, scratch};
    attention.masks = masks;
    attention.mask_count = 2;
    check(masktile_attention(&attention));

    const double error = greatest_error(q, k, v, out);
    printf("masktile %s, %s: greatest error %.1e\n", masktile_version(),
           masktile_isa_name(masktile_isa_best()), error);

    /* An error says what was wrong, and touches nothing. */
    attention.k.shape[3] = 3;
    const float before = out[0];
    const MasktileStatus status = masktile_attention(&attention);
    printf("with a wrong size: %s: %s\n", masktile_status_message(status), masktile_last_error());
    const int is_fine = error < 1e-5 && status == MASKTILE_STATUS_SIZE && out[0] == before;

    free(q);
    free(k);
    free(v);
    free(out);
    free(workspace);
    return is_fine ? EXIT_SUCCESS : EXIT_FAILURE;
}
