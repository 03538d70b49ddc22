/*
 * masktile: matrix product, masked softmax and attention, with the same bits on every instruction
 * set. Generated from capi/src by cbindgen: write there.
 *
 * Every function that can fail gives a MasktileStatus, and masktile_last_error() says in words
 * what was wrong with which argument. On a failure no output is touched.
 *
 * Structs of arguments begin with their size, and zeros are defaults:
 *
 *     MasktileSoftmax softmax = MASKTILE_INIT(MasktileSoftmax);
 *     softmax.scores = masktile_view(scores, 1, 1, rows, columns);
 *     softmax.probs = masktile_view_mut(probs, 1, 1, rows, columns);
 *     if (masktile_softmax(&softmax) != MASKTILE_STATUS_OK) puts(masktile_last_error());
 *
 * Any number of threads may call at once, each writing memory of its own.
 */

#ifndef MASKTILE_H
#define MASKTILE_H

#include <stddef.h>
#include <stdint.h>

/** A struct of arguments with its size, all else default. */
#ifdef __cplusplus
#define MASKTILE_INIT(type) ([] { type args{}; args.size = sizeof args; return args; }())
#else
#define MASKTILE_INIT(type) ((type){.size = sizeof(type)})
#endif

/**
 * Keys of a block: parts that are merged begin at multiples of it.
 */
#define MASKTILE_KEY_BLOCK 256

/**
 * The header's major version.
 */
#define MASKTILE_VERSION_MAJOR 0

/**
 * The header's minor version.
 */
#define MASKTILE_VERSION_MINOR 1

/**
 * The header's patch version.
 */
#define MASKTILE_VERSION_PATCH 0

/**
 * How a call ended. The numbers stay; later versions may add some.
 *
 * With any but `MASKTILE_STATUS_OK` the outputs are as they were, but for
 * `MASKTILE_STATUS_PANIC`, behind which they may be written in part.
 */
typedef enum {
    /**
     * Done.
     */
    MASKTILE_STATUS_OK = 0,
    /**
     * A size does not fit the others.
     */
    MASKTILE_STATUS_SIZE = 1,
    /**
     * A size is no multiple of another.
     */
    MASKTILE_STATUS_MULTIPLE = 2,
    /**
     * Memory is too short for what it should hold.
     */
    MASKTILE_STATUS_TOO_SHORT = 3,
    /**
     * A number is over its limit.
     */
    MASKTILE_STATUS_TOO_LARGE = 4,
    /**
     * A number that the operation cannot take, as a temperature of 0.
     */
    MASKTILE_STATUS_NUMBER = 5,
    /**
     * A size that must not be 0.
     */
    MASKTILE_STATUS_ZERO = 6,
    /**
     * Numbers that must not fall, and do.
     */
    MASKTILE_STATUS_FALLS = 7,
    /**
     * An option that has no meaning for this call.
     */
    MASKTILE_STATUS_MISPLACED = 8,
    /**
     * Memory that holds no packed matrix, or one of another version.
     */
    MASKTILE_STATUS_NOT_PACKED = 9,
    /**
     * A matrix packed for other instruction sets.
     */
    MASKTILE_STATUS_PACKED_FOR = 10,
    /**
     * Sizes and strides, or an address and a length, that no memory has.
     */
    MASKTILE_STATUS_OVERFLOW = 11,
    /**
     * Elements of an output would be the same memory, or an output lies in another operand.
     */
    MASKTILE_STATUS_OVERLAP = 12,
    /**
     * No instruction set has that name or number.
     */
    MASKTILE_STATUS_UNKNOWN_ISA = 13,
    /**
     * The machine lacks that instruction set.
     */
    MASKTILE_STATUS_UNAVAILABLE_ISA = 14,
    /**
     * A null pointer where memory is wanted.
     */
    MASKTILE_STATUS_NULL = 15,
    /**
     * A pointer that is no multiple of its element's size.
     */
    MASKTILE_STATUS_MISALIGNED = 16,
    /**
     * A struct's `size` that this version does not know.
     */
    MASKTILE_STATUS_STRUCT_SIZE = 17,
    /**
     * A number that is no enumerator of its enum.
     */
    MASKTILE_STATUS_UNKNOWN = 18,
    /**
     * A function of the caller's panicked, or the library has a defect.
     */
    MASKTILE_STATUS_PANIC = 19,
    /**
     * An error that this version of the interface has no number for.
     */
    MASKTILE_STATUS_OTHER = 20,
} MasktileStatus;

/**
 * An instruction set. Results have the same bits on each.
 */
typedef enum {
    /**
     * The one forced by `masktile_isa_force`, else the one that the environment variable
     * MASKTILE_ISA names, else the best that the machine has.
     */
    MASKTILE_ISA_DEFAULT = 0,
    /**
     * Portable code, on every machine.
     */
    MASKTILE_ISA_SCALAR = 1,
    /**
     * WebAssembly's vectors.
     */
    MASKTILE_ISA_WASM128 = 2,
    /**
     * Arm's.
     */
    MASKTILE_ISA_NEON = 3,
    /**
     * AVX2, FMA and F16C.
     */
    MASKTILE_ISA_AVX2 = 4,
    /**
     * AVX-512 F, BW, DQ and VL.
     */
    MASKTILE_ISA_AVX512 = 5,
} MasktileIsa;

/**
 * A function of each element of a product.
 */
typedef enum {
    /**
     * `x`
     */
    MASKTILE_ACTIVATION_NONE = 0,
    /**
     * `max(x, 0)`
     */
    MASKTILE_ACTIVATION_RELU = 1,
    /**
     * `x / 2 (1 + erf(x / sqrt 2))`, the exact GELU.
     */
    MASKTILE_ACTIVATION_GELU_ERF = 2,
    /**
     * Its approximation by tanh.
     */
    MASKTILE_ACTIVATION_GELU_TANH = 3,
    /**
     * `x / (1 + exp(-x))`, also called swish.
     */
    MASKTILE_ACTIVATION_SILU = 4,
} MasktileActivation;

/**
 * What an attention copies out.
 */
typedef enum {
    /**
     * Nothing.
     */
    MASKTILE_COPIED_NONE = 0,
    /**
     * The scaled products of queries and keys.
     */
    MASKTILE_COPIED_SCALED = 1,
    /**
     * Those behind the soft cap.
     */
    MASKTILE_COPIED_CAPPED = 2,
    /**
     * Those behind the biases and the temperature.
     */
    MASKTILE_COPIED_BIASED = 3,
    /**
     * The probabilities.
     */
    MASKTILE_COPIED_PROBS = 4,
} MasktileCopied;

/**
 * The kinds of mask, each with the member of `MasktileMaskOf` that it reads. A position of a
 * query i and a key j is kept or masked; one that is masked contributes exactly nothing.
 */
typedef enum {
    /**
     * Keeps everything. Reads no member.
     */
    MASKTILE_MASK_KIND_NONE = 0,
    /**
     * Keeps `j <= i + offset`: no token sees a later one. Reads `offset`.
     */
    MASKTILE_MASK_KIND_CAUSAL = 1,
    /**
     * Keeps keys near the query. Reads `window`.
     */
    MASKTILE_MASK_KIND_WINDOW = 2,
    /**
     * Keeps a prefix, and what is causal. Reads `prefix`.
     */
    MASKTILE_MASK_KIND_PREFIX_LM = 3,
    /**
     * Keeps the first `lengths.data[batch]` keys: the rest is padding. Reads `lengths`.
     */
    MASKTILE_MASK_KIND_KEY_LENGTHS = 4,
    /**
     * Keeps the keys of `ranges.data[batch]`: padding on both sides. Reads `ranges`.
     */
    MASKTILE_MASK_KIND_KEY_RANGES = 5,
    /**
     * Keeps keys of the query's own sequence among several packed into one. Reads `segments`.
     */
    MASKTILE_MASK_KIND_SEGMENTS = 6,
    /**
     * The same, and causal within each segment. Reads `segments`.
     */
    MASKTILE_MASK_KIND_SEGMENTS_CAUSAL = 7,
    /**
     * Keeps a key whose identity is the query's. Reads `ids`.
     */
    MASKTILE_MASK_KIND_SEGMENT_IDS = 8,
    /**
     * Keeps what a matrix of bytes says. Reads `matrix`.
     */
    MASKTILE_MASK_KIND_BOOL = 9,
    /**
     * Keeps what a matrix of bits says: batch x heads x queries x ceil(keys / 8) bytes, key j at
     * bit j mod 8, from the least significant on, of byte j / 8. Reads `matrix`.
     */
    MASKTILE_MASK_KIND_BITS = 10,
    /**
     * Keeps what a table of blocks says: batch x heads x query blocks x key blocks. Reads
     * `matrix`.
     */
    MASKTILE_MASK_KIND_BLOCKS = 11,
    /**
     * Keeps what a function of yours says. Reads `kept_where`.
     */
    MASKTILE_MASK_KIND_KEPT_WHERE = 12,
    /**
     * Adds numbers to the scaled scores, batch x heads x queries x keys; -infinity masks. Reads
     * `bias`.
     */
    MASKTILE_MASK_KIND_BIAS = 13,
    /**
     * The same in half precision. Reads `half_bias`.
     */
    MASKTILE_MASK_KIND_BIAS_F16 = 14,
    /**
     * The same in bfloat16. Reads `half_bias`.
     */
    MASKTILE_MASK_KIND_BIAS_BF16 = 15,
    /**
     * Adds `-slopes.data[head] * |i + offset - j|`. Reads `alibi`.
     */
    MASKTILE_MASK_KIND_ALIBI = 16,
    /**
     * Adds what a function of yours gives; -infinity masks. Reads `bias_of`.
     */
    MASKTILE_MASK_KIND_BIAS_OF = 17,
} MasktileMaskKind;

/**
 * Where the queries stand beside the keys: query i stands at key `i + offset`. There is no
 * default.
 */
typedef enum {
    /**
     * 0: query 0 stands at key 0. For training, and prefill from an empty cache.
     */
    MASKTILE_OFFSET_KIND_TOP_LEFT = 1,
    /**
     * keys - queries: the last query stands at the last key. For queries that are the last tokens
     * of a cache.
     */
    MASKTILE_OFFSET_KIND_BOTTOM_RIGHT = 2,
    /**
     * `offset.same`.
     */
    MASKTILE_OFFSET_KIND_SAME = 3,
    /**
     * `offset.per_batch.data[batch]`.
     */
    MASKTILE_OFFSET_KIND_PER_BATCH = 4,
    /**
     * `offset.lengths.data[batch]`: the number of tokens before the first query.
     */
    MASKTILE_OFFSET_KIND_PAST = 5,
    /**
     * `offset.lengths.data[batch] - queries`: the last query stands at the last of so many keys.
     */
    MASKTILE_OFFSET_KIND_ENDING_AT = 6,
} MasktileOffsetKind;

/**
 * What a 1 in a matrix of booleans means. There is no default.
 */
typedef enum {
    /**
     * 1 = ignore, 0 = attend.
     */
    MASKTILE_ONES_ARE_MASKED = 1,
    /**
     * 1 = attend, 0 = ignore.
     */
    MASKTILE_ONES_ARE_KEPT = 2,
} MasktileOnes;

/**
 * A product in parts: each writes its own elements of C, and the bits are those of
 * `masktile_matmul`, however many there are.
 */
typedef struct MasktileParts MasktileParts;

/**
 * An operand in memory of yours: element `[b][h][i][j]` is
 * `data[b * strides[0] + h * strides[1] + i * strides[2] + j * strides[3]]`.
 *
 * The axes are batch, heads, tokens and width, or batch, batch, rows and columns; a matrix has 1
 * and 1 in front. Strides count elements; one of 0 repeats an axis.
 */
typedef struct {
    /**
     * Element `[0][0][0][0]`.
     */
    const float *data;
    /**
     * How many elements the memory holds from there on, whatever the strides: what they name
     * beyond it is an error.
     */
    size_t len;
    /**
     * The sizes.
     */
    size_t shape[4];
    /**
     * The steps from one element to the next along each axis.
     */
    size_t strides[4];
} MasktileView;

/**
 * As `MasktileView`, to write to. No two elements are the same memory, and no other operand of a
 * call lies between its first and its last.
 */
typedef struct {
    /**
     * Element `[0][0][0][0]`.
     */
    float *data;
    /**
     * How many elements the memory holds from there on, whatever the strides: what they name
     * beyond it is an error.
     */
    size_t len;
    /**
     * The sizes.
     */
    size_t shape[4];
    /**
     * The steps from one element to the next along each axis.
     */
    size_t strides[4];
} MasktileViewMut;

/**
 * Numbers to write; none where `data` is null and `len` 0.
 */
typedef struct {
    /**
     * The first.
     */
    float *data;
    /**
     * How many the memory holds.
     */
    size_t len;
} MasktileSliceMut;

/**
 * Numbers to read; none where `data` is null and `len` 0.
 */
typedef struct {
    /**
     * The first.
     */
    const ptrdiff_t *data;
    /**
     * How many the memory holds.
     */
    size_t len;
} MasktileOffsets;

/**
 * Numbers to read; none where `data` is null and `len` 0.
 */
typedef struct {
    /**
     * The first.
     */
    const size_t *data;
    /**
     * How many the memory holds.
     */
    size_t len;
} MasktileSizes;

/**
 * Where the queries stand beside the keys.
 */
typedef struct {
    /**
     * One of `MasktileOffsetKind`.
     */
    uint32_t kind;
    /**
     * For `MASKTILE_OFFSET_KIND_SAME`; it may be negative.
     */
    ptrdiff_t same;
    /**
     * For `MASKTILE_OFFSET_KIND_PER_BATCH`: one number for each batch.
     */
    MasktileOffsets per_batch;
    /**
     * For `MASKTILE_OFFSET_KIND_PAST` and `MASKTILE_OFFSET_KIND_ENDING_AT`: one for each batch.
     */
    MasktileSizes lengths;
} MasktileOffset;

/**
 * Keeps `i + offset - left <= j <= i + offset + right`; SIZE_MAX for no bound. A window of W
 * tokens that ends with the query's own has `left` = W - 1 and `right` = 0.
 */
typedef struct {
    /**
     * Keys before the query's own.
     */
    size_t left;
    /**
     * Keys behind it.
     */
    size_t right;
    /**
     * Where the queries stand.
     */
    MasktileOffset offset;
} MasktileWindow;

/**
 * Keeps `j < lengths.data[batch]` or `j <= i + offset`.
 */
typedef struct {
    /**
     * The prefix of each batch.
     */
    MasktileSizes lengths;
    /**
     * Where the queries stand.
     */
    MasktileOffset offset;
} MasktilePrefixLm;

/**
 * The keys from `start` up to, and without, `end`.
 */
typedef struct {
    /**
     * The first.
     */
    size_t start;
    /**
     * The one behind the last.
     */
    size_t end;
} MasktileKeyRange;

/**
 * Numbers to read; none where `data` is null and `len` 0.
 */
typedef struct {
    /**
     * The first.
     */
    const MasktileKeyRange *data;
    /**
     * How many the memory holds.
     */
    size_t len;
} MasktileKeyRanges;

/**
 * Cumulative lengths (`cu_seqlens`): segment s is the queries from `queries.data[s]` up to
 * `queries.data[s + 1]` and the keys from `keys.data[s]` up to `keys.data[s + 1]`, in every batch.
 */
typedef struct {
    /**
     * Of queries.
     */
    MasktileSizes queries;
    /**
     * Of keys, as many.
     */
    MasktileSizes keys;
} MasktileSegments;

/**
 * An operand in memory of yours: element `[b][h][i][j]` is
 * `data[b * strides[0] + h * strides[1] + i * strides[2] + j * strides[3]]`.
 *
 * The axes are batch, heads, tokens and width, or batch, batch, rows and columns; a matrix has 1
 * and 1 in front. Strides count elements; one of 0 repeats an axis.
 */
typedef struct {
    /**
     * Element `[0][0][0][0]`.
     */
    const int32_t *data;
    /**
     * How many elements the memory holds from there on, whatever the strides: what they name
     * beyond it is an error.
     */
    size_t len;
    /**
     * The sizes.
     */
    size_t shape[4];
    /**
     * The steps from one element to the next along each axis.
     */
    size_t strides[4];
} MasktileViewI32;

/**
 * The identity of each token's segment.
 */
typedef struct {
    /**
     * 1 x 1 x batch x queries.
     */
    MasktileViewI32 queries;
    /**
     * 1 x 1 x batch x keys.
     */
    MasktileViewI32 keys;
} MasktileSegmentIds;

/**
 * An operand in memory of yours: element `[b][h][i][j]` is
 * `data[b * strides[0] + h * strides[1] + i * strides[2] + j * strides[3]]`.
 *
 * The axes are batch, heads, tokens and width, or batch, batch, rows and columns; a matrix has 1
 * and 1 in front. Strides count elements; one of 0 repeats an axis.
 */
typedef struct {
    /**
     * Element `[0][0][0][0]`.
     */
    const uint8_t *data;
    /**
     * How many elements the memory holds from there on, whatever the strides: what they name
     * beyond it is an error.
     */
    size_t len;
    /**
     * The sizes.
     */
    size_t shape[4];
    /**
     * The steps from one element to the next along each axis.
     */
    size_t strides[4];
} MasktileViewU8;

/**
 * A matrix of booleans, any byte but 0 counting as 1.
 */
typedef struct {
    /**
     * Batch x heads x queries x keys; of bits and blocks as `MasktileMaskKind` says. A stride of 0
     * repeats an axis.
     */
    MasktileViewU8 ones;
    /**
     * One of `MasktileOnes`.
     */
    uint32_t meaning;
    /**
     * Of blocks: how many queries a block has.
     */
    size_t block_queries;
    /**
     * Of blocks: how many keys.
     */
    size_t block_keys;
} MasktileBoolMatrix;

/**
 * A function that says what is kept: any but 0 keeps. It may be asked more than once, answers
 * alike, and neither throws nor jumps out.
 */
typedef struct {
    /**
     * Of `user`, batch, head, query and key.
     */
    int32_t (*function)(void *user, size_t batch, size_t head, size_t query, size_t key);
    /**
     * Whatever you want it to get.
     */
    void *user;
} MasktileKeptWhere;

/**
 * An operand in memory of yours: element `[b][h][i][j]` is
 * `data[b * strides[0] + h * strides[1] + i * strides[2] + j * strides[3]]`.
 *
 * The axes are batch, heads, tokens and width, or batch, batch, rows and columns; a matrix has 1
 * and 1 in front. Strides count elements; one of 0 repeats an axis.
 */
typedef struct {
    /**
     * Element `[0][0][0][0]`.
     */
    const uint16_t *data;
    /**
     * How many elements the memory holds from there on, whatever the strides: what they name
     * beyond it is an error.
     */
    size_t len;
    /**
     * The sizes.
     */
    size_t shape[4];
    /**
     * The steps from one element to the next along each axis.
     */
    size_t strides[4];
} MasktileViewU16;

/**
 * Numbers to read; none where `data` is null and `len` 0.
 */
typedef struct {
    /**
     * The first.
     */
    const float *data;
    /**
     * How many the memory holds.
     */
    size_t len;
} MasktileSlice;

/**
 * Biases linear in the distance.
 */
typedef struct {
    /**
     * One finite slope for each head.
     */
    MasktileSlice slopes;
    /**
     * Where the queries stand.
     */
    MasktileOffset offset;
} MasktileAlibi;

/**
 * A function that gives a bias. It may be asked more than once, answers alike, and neither throws
 * nor jumps out.
 */
typedef struct {
    /**
     * Of `user`, batch, head, query and key.
     */
    float (*function)(void *user, size_t batch, size_t head, size_t query, size_t key);
    /**
     * Whatever you want it to get.
     */
    void *user;
} MasktileBiasOf;

/**
 * What a mask is made of: the member that its kind names.
 */
typedef union {
    /**
     * Causal.
     */
    MasktileOffset offset;
    /**
     * Near keys.
     */
    MasktileWindow window;
    /**
     * A prefix.
     */
    MasktilePrefixLm prefix;
    /**
     * One length for each batch.
     */
    MasktileSizes lengths;
    /**
     * One range for each batch.
     */
    MasktileKeyRanges ranges;
    /**
     * Packed sequences.
     */
    MasktileSegments segments;
    /**
     * The same by identities.
     */
    MasktileSegmentIds ids;
    /**
     * Booleans as bytes, bits or blocks.
     */
    MasktileBoolMatrix matrix;
    /**
     * A function of what is kept.
     */
    MasktileKeptWhere kept_where;
    /**
     * Numbers.
     */
    MasktileView bias;
    /**
     * Numbers of 16 bits.
     */
    MasktileViewU16 half_bias;
    /**
     * Slopes.
     */
    MasktileAlibi alibi;
    /**
     * A function of biases.
     */
    MasktileBiasOf bias_of;
} MasktileMaskOf;

/**
 * A mask. An array of them keeps what all of them keep, and adds up their biases in order: at
 * most four each of the kinds that keep a run of keys, of those by matrix or function, and of
 * biases.
 */
typedef struct {
    /**
     * `sizeof(MasktileMask)`, the same in all elements of an array.
     */
    size_t size;
    /**
     * One of `MasktileMaskKind`.
     */
    uint32_t kind;
    /**
     * What it is made of.
     */
    MasktileMaskOf of;
} MasktileMask;

/**
 * A number that may be left out.
 */
typedef struct {
    /**
     * 0: the default is taken.
     */
    uint32_t is_given;
    /**
     * The number.
     */
    float value;
} MasktileOptional;

/**
 * `out = softmax(scale Q K^T + bias, masked) V` for each batch and head, never holding a queries x
 * keys matrix. `kv_heads` divides `heads`: query head h reads key/value head
 * `h / (heads / kv_heads)`. A row of which nothing is kept gives zeros.
 */
typedef struct {
    /**
     * `sizeof(MasktileAttention)`.
     */
    size_t size;
    /**
     * Batch x heads x queries x dim.
     */
    MasktileView q;
    /**
     * Batch x kv_heads x keys x dim; all zeros where a cache attends.
     */
    MasktileView k;
    /**
     * Batch x kv_heads x keys x value_dim; all zeros where a cache attends.
     */
    MasktileView v;
    /**
     * Batch x heads x queries x value_dim; all zeros if `blocks` is given.
     */
    MasktileViewMut out;
    /**
     * At least `masktile_attention_workspace_len` floats.
     */
    MasktileSliceMut workspace;
    /**
     * What is kept, and biases.
     */
    const MasktileMask *masks;
    /**
     * How many masks. 0 keeps everything; where a cache attends, what is causal with the last
     * query at the last key.
     */
    size_t mask_count;
    /**
     * The factor of the products of queries and keys. Default `1 / sqrt(dim)`.
     */
    MasktileOptional scale;
    /**
     * Keeps scaled scores within it, by `softcap * tanh(s / softcap)`.
     */
    MasktileOptional softcap;
    /**
     * Divides the scores, biases included. Default 1.
     */
    MasktileOptional temperature;
    /**
     * One of `MasktileCopied`: what goes to `copy`.
     */
    uint32_t copied;
    /**
     * One of `MasktileIsa`.
     */
    uint32_t isa;
    /**
     * A logit for each head that joins the softmax's sum and has no value.
     */
    MasktileSlice sinks;
    /**
     * Where to write the log-sum-exp of each row's scores, batch x heads x queries numbers;
     * -infinity for a row of which nothing is kept.
     */
    MasktileSliceMut lse;
    /**
     * Batch x heads x queries x keys, for scores or probabilities to look at. Masked positions are
     * -infinity, of probabilities 0.
     */
    MasktileViewMut copy;
    /**
     * The keys and values are those from this one on
     */
    size_t first_key;
    /**
     * of so many in all, which the masks speak of; 0 and 0 if they are all.
     */
    size_t all_keys;
    /**
     * In place of `out`: where to write each block of keys by itself, for `masktile_merge`; at
     * least `masktile_attention_key_blocks_len` floats.
     */
    MasktileSliceMut blocks;
} MasktileAttention;

/**
 * Key blocks that an attention with `blocks` wrote.
 */
typedef struct {
    /**
     * Its `blocks`.
     */
    MasktileSlice blocks;
    /**
     * How many keys it had.
     */
    size_t keys;
} MasktileKeyBlocks;

/**
 * Numbers to read; none where `data` is null and `len` 0.
 */
typedef struct {
    /**
     * The first.
     */
    const MasktileKeyBlocks *data;
    /**
     * How many the memory holds.
     */
    size_t len;
} MasktileKeyBlocksList;

/**
 * An output over a part of the keys.
 */
typedef struct {
    /**
     * Batch x heads x queries x value_dim.
     */
    MasktileView out;
    /**
     * Its log-sum-exp, batch x heads x queries numbers.
     */
    MasktileSlice lse;
} MasktilePartialOutput;

/**
 * Numbers to read; none where `data` is null and `len` 0.
 */
typedef struct {
    /**
     * The first.
     */
    const MasktilePartialOutput *data;
    /**
     * How many the memory holds.
     */
    size_t len;
} MasktilePartialOutputs;

/**
 * Merges attention over parts of the keys into attention over all of them.
 */
typedef struct {
    /**
     * `sizeof(MasktileMerge)`.
     */
    size_t size;
    /**
     * Batch x heads x queries x value_dim.
     */
    MasktileViewMut out;
    /**
     * Key blocks of consecutive parts, from the first keys to the last; all but the last have a
     * multiple of MASKTILE_KEY_BLOCK keys. The result has the bits of attention over all keys at once.
     */
    MasktileKeyBlocksList blocks;
    /**
     * In place of `blocks`: outputs over any parts of the keys, in any order, which rounding
     * depends on.
     */
    MasktilePartialOutputs outputs;
    /**
     * A logit for each head that joins the softmax's sum and has no value.
     */
    MasktileSlice sinks;
    /**
     * Where to write the log-sum-exp of each row's scores, batch x heads x queries numbers.
     */
    MasktileSliceMut lse;
    /**
     * One of `MasktileIsa`.
     */
    uint32_t isa;
} MasktileMerge;

/**
 * A cache all of whose batches hold as many tokens.
 */
typedef struct {
    /**
     * `sizeof(MasktileKvCache)`.
     */
    size_t size;
    /**
     * Batch x kv_heads x capacity x dim.
     */
    MasktileViewMut keys;
    /**
     * Batch x kv_heads x capacity x value_dim.
     */
    MasktileViewMut values;
    /**
     * How many tokens it holds. Make it less to forget the last ones.
     */
    size_t len;
} MasktileKvCache;

/**
 * Numbers to write; none where `data` is null and `len` 0.
 */
typedef struct {
    /**
     * The first.
     */
    size_t *data;
    /**
     * How many the memory holds.
     */
    size_t len;
} MasktileSizesMut;

/**
 * A cache whose batches are filled differently.
 */
typedef struct {
    /**
     * `sizeof(MasktileRaggedCache)`.
     */
    size_t size;
    /**
     * Batch x kv_heads x capacity x dim.
     */
    MasktileViewMut keys;
    /**
     * Batch x kv_heads x capacity x value_dim.
     */
    MasktileViewMut values;
    /**
     * How many tokens it holds of each batch.
     */
    MasktileSizesMut lengths;
} MasktileRaggedCache;

/**
 * An operand in memory of yours: element `[b][h][i][j]` is
 * `data[b * strides[0] + h * strides[1] + i * strides[2] + j * strides[3]]`.
 *
 * The axes are batch, heads, tokens and width, or batch, batch, rows and columns; a matrix has 1
 * and 1 in front. Strides count elements; one of 0 repeats an axis.
 */
typedef struct {
    /**
     * Element `[0][0][0][0]`.
     */
    const uint32_t *data;
    /**
     * How many elements the memory holds from there on, whatever the strides: what they name
     * beyond it is an error.
     */
    size_t len;
    /**
     * The sizes.
     */
    size_t shape[4];
    /**
     * The steps from one element to the next along each axis.
     */
    size_t strides[4];
} MasktileViewU32;

/**
 * A cache in pages: token t of batch b is token `t mod n` of page `table[b][t / n]`, with pages of n
 * tokens. Pages may be shared between batches to read. Which pages a sequence gets is yours: write
 * the table before you append.
 */
typedef struct {
    /**
     * `sizeof(MasktilePagedCache)`.
     */
    size_t size;
    /**
     * Pages x kv_heads x page length x dim.
     */
    MasktileViewMut keys;
    /**
     * Pages x kv_heads x page length x value_dim.
     */
    MasktileViewMut values;
    /**
     * 1 x 1 x batch x pages of a sequence. Of it only what the lengths need is read.
     */
    MasktileViewU32 table;
    /**
     * How many tokens it holds of each batch.
     */
    MasktileSizesMut lengths;
} MasktilePagedCache;

/**
 * Bounds that may be left out.
 */
typedef struct {
    /**
     * 0: there are none.
     */
    uint32_t is_given;
    /**
     * The least result.
     */
    float least;
    /**
     * The greatest.
     */
    float greatest;
} MasktileClamp;

/**
 * A last step of yours: called once for every finished element, with `count` contiguous elements
 * of one row from `column` on, some at a time, in no given order and from any of the threads that
 * run parts. Rows count on through the leading axes. It neither throws nor jumps out.
 */
typedef struct {
    /**
     * Of `user`, the row, the first column, the elements and how many; null for none.
     */
    void (*function)(void *user, size_t row, size_t column, float *elements, size_t count);
    /**
     * Whatever you want it to get.
     */
    void *user;
} MasktileEach;

/**
 * `C = clamp(activation(scale (alpha A B + beta C) + bias) + residual)`: A is m x k, B is k x n, C
 * and the residual are m x n, scale and bias are one number a column. One product for each index
 * of the leading axes; B may have 1 there, or be packed, and all share it.
 */
typedef struct {
    /**
     * `sizeof(MasktileMatmul)`.
     */
    size_t size;
    /**
     * m x k.
     */
    MasktileView a;
    /**
     * k x n; all zeros if `packed_b` is given.
     */
    MasktileView b;
    /**
     * m x n.
     */
    MasktileViewMut c;
    /**
     * At least `masktile_matmul_workspace_len` floats, m being the rows of all leading indices.
     */
    MasktileSliceMut workspace;
    /**
     * Memory that `masktile_pack_b` wrote, in place of `b`.
     */
    MasktileSlice packed_b;
    /**
     * A factor of A. Default 1.
     */
    MasktileOptional alpha;
    /**
     * A factor of what C holds. With 0 C is written and never read.
     */
    float beta;
    /**
     * One of `MasktileActivation`, after the bias.
     */
    uint32_t activation;
    /**
     * A factor for each column of C, as a quantised weight has.
     */
    MasktileSlice scale;
    /**
     * A number for each column of C, added.
     */
    MasktileSlice bias;
    /**
     * A matrix as large as C, added after the activation.
     */
    MasktileView residual;
    /**
     * Bounds of the result, after the residual. NaN stays NaN.
     */
    MasktileClamp clamp;
    /**
     * One of `MasktileIsa`.
     */
    uint32_t isa;
    /**
     * The last step.
     */
    MasktileEach each;
} MasktileMatmul;

/**
 * `probs[j] = exp(s[j] - max) / sum` over the kept keys j of each row, 0 where masked, with
 * `s = (softcap(scale * scores) + biases) / temperature`. A row of which nothing is kept becomes
 * zeros.
 */
typedef struct {
    /**
     * `sizeof(MasktileSoftmax)`.
     */
    size_t size;
    /**
     * Batch x heads x queries x keys.
     */
    MasktileView scores;
    /**
     * The same; with the same data, shape and strides scores become probabilities in place.
     */
    MasktileViewMut probs;
    /**
     * What is kept, and biases.
     */
    const MasktileMask *masks;
    /**
     * How many masks; 0 keeps everything.
     */
    size_t mask_count;
    /**
     * A factor of the scores. Default 1.
     */
    MasktileOptional scale;
    /**
     * Keeps scaled scores within it, by `softcap * tanh(s / softcap)`.
     */
    MasktileOptional softcap;
    /**
     * Divides the scores, biases included. Default 1.
     */
    MasktileOptional temperature;
    /**
     * Any but 0: the logarithm of the probabilities, -infinity where masked.
     */
    uint32_t log;
    /**
     * One of `MasktileIsa`.
     */
    uint32_t isa;
    /**
     * A logit for each head that joins the sum and has no key.
     */
    MasktileSlice sinks;
    /**
     * Where to write the log-sum-exp of each row, batch x heads x queries numbers; -infinity for
     * a row of which nothing is kept.
     */
    MasktileSliceMut lse;
} MasktileSoftmax;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Floats of workspace, whatever the machine and the strides, for `rows` query rows a key/value
 * head: queries times the query heads that share it. It stops growing at 168 rows and 256 keys.
 */
size_t masktile_attention_workspace_len(size_t rows, size_t keys, size_t dim, size_t value_dim);

/**
 * Computes the attention.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there.
 */
MasktileStatus masktile_attention(const MasktileAttention *args);

/**
 * Floats for the key blocks of `rows` query rows (batch x heads x queries) and `keys` keys.
 */
size_t masktile_attention_key_blocks_len(size_t rows, size_t keys, size_t value_dim);

/**
 * Merges the parts.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there.
 */
MasktileStatus masktile_merge(const MasktileMerge *args);

/**
 * Appends one or more tokens, batch x kv_heads x tokens x dim of keys and x value_dim of values.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there.
 */
MasktileStatus masktile_kv_cache_append(MasktileKvCache *cache,
                                        MasktileView keys,
                                        MasktileView values);

/**
 * Attention of `args->q`, the last tokens of the cache, over all that it holds. Without masks it is
 * causal; masks take the place of that, so give it too where both are meant.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there.
 */
MasktileStatus masktile_kv_cache_attend(const MasktileKvCache *cache,
                                        const MasktileAttention *args);

/**
 * Appends the first `counts[b]` tokens of each batch b of keys, batch x kv_heads x tokens x dim, and
 * values.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there.
 */
MasktileStatus masktile_ragged_cache_append(const MasktileRaggedCache *cache,
                                            MasktileView keys,
                                            MasktileView values,
                                            MasktileSizes counts);

/**
 * Attention of `args->q`, the last tokens of each batch, over all that it holds; as
 * `masktile_kv_cache_attend`. The masks speak of as many keys as the longest batch has.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there.
 */
MasktileStatus masktile_ragged_cache_attend(const MasktileRaggedCache *cache,
                                            const MasktileAttention *args);

/**
 * Appends the first `counts[b]` tokens of each batch b of keys, batch x kv_heads x tokens x dim, and
 * values, to the pages that the table names.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there.
 */
MasktileStatus masktile_paged_cache_append(const MasktilePagedCache *cache,
                                           MasktileView keys,
                                           MasktileView values,
                                           MasktileSizes counts);

/**
 * Attention of `args->q`, the last tokens of each batch, over all that it holds; as
 * `masktile_kv_cache_attend`. The masks speak of as many keys as the longest batch has; those
 * behind a batch's length are masked whatever they say.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there.
 */
MasktileStatus masktile_paged_cache_attend(const MasktilePagedCache *cache,
                                           const MasktileAttention *args);

/**
 * The encoder's output, 1 x 1 x n x d, with the previous decoder output, d numbers, as one more
 * row: `joined` is 1 x 1 x (n + 1) x d.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there.
 */
MasktileStatus masktile_join_as_row(MasktileView encoder,
                                    MasktileSlice previous,
                                    MasktileViewMut joined);

/**
 * The encoder's output, 1 x 1 x n x d, with the previous decoder output, d_o numbers, as more
 * columns of every row: `joined` is 1 x 1 x n x (d + d_o).
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there.
 */
MasktileStatus masktile_join_as_columns(MasktileView encoder,
                                        MasktileSlice previous,
                                        MasktileViewMut joined);

/**
 * The name of an instruction set, as MASKTILE_ISA takes it; null for a number that is none of
 * `MasktileIsa`. Lives as long as the program.
 */
const char *masktile_isa_name(uint32_t isa);

/**
 * The best instruction set that the machine has.
 */
MasktileIsa masktile_isa_best(void);

/**
 * Writes the instruction sets that the machine has, the plainest first, as many as `isas` has
 * room for. Gives how many there are. `isas` may be null if `room` is 0.
 *
 * # Safety
 * `isas` has room for as many as `room` says.
 */
size_t masktile_isa_available(MasktileIsa *isas, size_t room);

/**
 * The instruction set of an operation that asks for the default, in `isa`. Fails if MASKTILE_ISA
 * names none that the machine has.
 *
 * # Safety
 * `isa` is null or has room for one.
 */
MasktileStatus masktile_isa_current(MasktileIsa *isa);

/**
 * The instruction set called `name`, in any case, in `isa`. Fails, with a text that lists the
 * available ones, if the name is unknown or the machine lacks it.
 *
 * # Safety
 * `name` is null or a string that ends with a zero; `isa` is null or has room for one.
 */
MasktileStatus masktile_isa_named(const char *name, MasktileIsa *isa);

/**
 * Makes every operation of the process that asks for the default use this instruction set;
 * `MASKTILE_ISA_DEFAULT` ends that.
 */
MasktileStatus masktile_isa_force(uint32_t isa);

/**
 * Draws the masks together for scores of `shape` (batch, heads, queries, keys) into `text`, which
 * has room for `room` bytes with the zero at its end: a line for each query, `.` for a kept key
 * and `#` for a masked one, under a heading where there is more than one batch or head. Of more
 * than 64 queries or 128 keys the rest is left out, with an ellipsis (in UTF-8) in its place.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there; `shape` to four.
 */
MasktileStatus masktile_mask_draw(const MasktileMask *masks,
                                  size_t mask_count,
                                  const size_t *shape,
                                  char *text,
                                  size_t room);

/**
 * Whether the masks together keep `position` (batch, head, query, key) of scores of `shape`, in
 * `kept`: 1 or 0.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there; `shape` and `position` to four.
 */
MasktileStatus masktile_mask_kept(const MasktileMask *masks,
                                  size_t mask_count,
                                  const size_t *shape,
                                  const size_t *position,
                                  int32_t *kept);

/**
 * Floats of workspace for an m x k by k x n product, whatever the machine and the strides.
 */
size_t masktile_matmul_workspace_len(size_t m, size_t n, size_t k);

/**
 * Computes C.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there.
 */
MasktileStatus masktile_matmul(const MasktileMatmul *args);

/**
 * Checks a product and puts it in `count` parts, 4096 at most, to be run by
 * `masktile_parts_run` and given back by `masktile_parts_free`. All memory of `args` but its
 * workspace, which is not used, stays as it is until then.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there, until the parts are freed.
 */
MasktileStatus masktile_matmul_parts(const MasktileMatmul *args,
                                     size_t count,
                                     MasktileParts **parts);

/**
 * Runs part `index`, once, on this thread, with a workspace of this thread's alone of at least
 * `masktile_matmul_workspace_len` floats, m being the rows of all leading indices. Any number of
 * threads may run parts of one product at once.
 *
 * # Safety
 * `parts` is null or from `masktile_matmul_parts` and not freed; the workspace is as long as said.
 */
MasktileStatus masktile_parts_run(const MasktileParts *parts,
                                  size_t index,
                                  MasktileSliceMut workspace);

/**
 * Gives the parts back, whether they were run or not. Null is fine.
 *
 * # Safety
 * `parts` is null or from `masktile_matmul_parts` and not freed; no thread runs one of them.
 */
void masktile_parts_free(MasktileParts *parts);

/**
 * Floats of memory for a packed k x n matrix, whatever the instruction set.
 */
size_t masktile_packed_b_len(size_t k, size_t n);

/**
 * Packs `b`, 1 x 1 x k x n, into `memory` for an instruction set (one of `MasktileIsa`). The
 * memory may be written to a file as it is: it says what it holds.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there.
 */
MasktileStatus masktile_pack_b(MasktileView b, uint32_t isa, MasktileSliceMut memory);

/**
 * The sizes of the matrix that `masktile_pack_b` once wrote into this memory, in `k` and `n`.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there.
 */
MasktileStatus masktile_packed_b_shape(MasktileSlice memory, size_t *k, size_t *n);

/**
 * Computes the probabilities.
 *
 * # Safety
 * Every pointer leads to as many elements as are said to be there.
 */
MasktileStatus masktile_softmax(const MasktileSoftmax *args);

/**
 * What `status` means, in English, for any number. Lives as long as the program.
 */
const char *masktile_status_message(uint32_t status);

/**
 * The text of the last call that failed on this thread: which argument, what was given, what was
 * wanted. Empty if none failed. Lives until the next call that fails on this thread.
 */
const char *masktile_last_error(void);

/**
 * The library's version as text, `0.1.0`. Lives as long as the program.
 */
const char *masktile_version(void);

/**
 * The library's version as a number: 10000 * major + 100 * minor + patch.
 */
uint32_t masktile_version_number(void);

/**
 * A contiguous operand of `batch` x `heads` x `tokens` x `width` floats, the last axis the closest.
 * A matrix is `1` x `1` x rows x columns.
 */
MasktileView masktile_view(const float *data,
                           size_t batch,
                           size_t heads,
                           size_t tokens,
                           size_t width);

/**
 * As `masktile_view`, to write to.
 */
MasktileViewMut masktile_view_mut(float *data,
                                  size_t batch,
                                  size_t heads,
                                  size_t tokens,
                                  size_t width);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MASKTILE_H */
