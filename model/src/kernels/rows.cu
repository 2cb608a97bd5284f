// Everything between the matrix products but attention: one block works at one row.
//
// Each thread takes eight neighbouring columns at a time, so that a sum has the same order whether or not they
// can be read at once.
#include "common.cuh"

template <typename T>
__device__ __forceinline__ void embed(float* stream, const T* table, const u32* tokens, u32 hidden) {
    const T* const from = table + size_t(tokens[blockIdx.x]) * hidden;
    float* const to = stream + size_t(blockIdx.x) * hidden;
    const bool wide = hidden % 8 == 0 && is_aligned(table) && is_aligned(stream);
    for (u32 at = 8 * threadIdx.x; at < hidden; at += 8 * THREADS) {
        float values[8];
        load(values, from + at, hidden - at, wide);
        store(to + at, values, hidden - at, wide);
    }
}

// stream[r, :] = table[tokens[r], :]
#define EMBED(name, T)                                                                                           \
    KERNEL(embed_##name, THREADS, 1, float* stream, const T* table, const u32* tokens, u32 rows, u32 hidden) {   \
        if (blockIdx.x < rows) embed(stream, table, tokens, hidden);                                             \
    }
FOR_EVERY_TYPE(EMBED)

template <typename T>
__device__ __forceinline__ void rms_norm(T* out, const float* stream, const float* weight, u32 hidden, float epsilon) {
    const float* const from = stream + size_t(blockIdx.x) * hidden;
    T* const to = out + size_t(blockIdx.x) * hidden;
    const bool wide = hidden % 8 == 0 && is_aligned(out) && is_aligned(stream) && is_aligned(weight);
    float squares = 0.0f;
    for (u32 at = 8 * threadIdx.x; at < hidden; at += 8 * THREADS) {
        float values[8];
        load(values, from + at, hidden - at, wide);
#pragma unroll
        for (u32 k = 0; k < 8; ++k) squares += values[k] * values[k];
    }
    const float factor = rsqrtf(sum_of_block(squares) / float(hidden) + epsilon);
    for (u32 at = 8 * threadIdx.x; at < hidden; at += 8 * THREADS) {
        float values[8], weights[8];
        load(values, from + at, hidden - at, wide);
        load(weights, weight + at, hidden - at, wide);
#pragma unroll
        for (u32 k = 0; k < 8; ++k) values[k] = values[k] * factor * weights[k];
        store(to + at, values, hidden - at, wide);
    }
}

// out[r, :] = x / sqrt(mean(x^2) + epsilon) * weight
#define RMS_NORM(name, T)                                                                                          \
    KERNEL(rms_norm_##name, THREADS, 1, T* out, const float* stream, const float* weight, u32 rows, u32 hidden,    \
           float epsilon) {                                                                                        \
        if (blockIdx.x < rows) rms_norm(out, stream, weight, hidden, epsilon);                                     \
    }
FOR_EVERY_TYPE(RMS_NORM)

template <typename T>
__device__ __forceinline__ void rotate_store(T* kv, const T* fused, u32 position, u32 slot, const float* cosine,
                                             const float* sine, u32 heads, u32 kv_heads, u32 size, u64 capacity) {
    const u32 half = size / 2;
    const T* const from = fused + size_t(blockIdx.x) * (heads + 2 * kv_heads) * size + size_t(heads) * size;
    T* const keys = kv + size_t(slot) * kv_heads * size;
    T* const values = kv + (size_t(capacity) + slot) * kv_heads * size;
    const bool wide = half % 8 == 0 && is_aligned(kv) && is_aligned(fused) && is_aligned(cosine) && is_aligned(sine);
    // Eight pairs of a head at a time.
    const u32 parts = (half + 7) / 8;
    for (u32 item = threadIdx.x; item < kv_heads * parts; item += THREADS) {
        const u32 at = item % parts * 8, left = half - at;
        const size_t low = size_t(item / parts) * size + at, high = low + half;
        float a[8], b[8], c[8], s[8];
        load(a, from + low, left, wide);
        load(b, from + high, left, wide);
        load(c, cosine + size_t(position) * half + at, left, wide);
        load(s, sine + size_t(position) * half + at, left, wide);
#pragma unroll
        for (u32 k = 0; k < 8; ++k) {
            const float rotated = a[k] * c[k] - b[k] * s[k];
            b[k] = b[k] * c[k] + a[k] * s[k];
            a[k] = rotated;
        }
        store(keys + low, a, left, wide);
        store(keys + high, b, left, wide);
        const T* const value = from + size_t(kv_heads) * size;
        load(a, value + low, left, wide);
        load(b, value + high, left, wide);
        store(values + low, a, left, wide);
        store(values + high, b, left, wide);
    }
}

// Rotates the keys of `fused`, [rows, q | k | v], by their positions and writes keys and values to their slots;
// a row whose slot lies beyond the cache is not kept.
#define ROTATE_STORE(name, T)                                                                                       \
    KERNEL(rotate_store_##name, THREADS, 1, T* kv, const T* fused, const u32* positions, const u32* slots,          \
           const float* cosine, const float* sine, u32 rows, u32 heads, u32 kv_heads, u32 size, u64 capacity) {     \
        if (blockIdx.x < rows && slots[blockIdx.x] < capacity)                                                      \
            rotate_store(kv, fused, positions[blockIdx.x], slots[blockIdx.x], cosine, sine, heads, kv_heads, size,  \
                         capacity);                                                                                 \
    }
FOR_EVERY_TYPE(ROTATE_STORE)

template <typename T>
__device__ __forceinline__ void silu_multiply(T* out, const T* gate_up, u32 intermediate) {
    const T* const from = gate_up + size_t(blockIdx.x) * 2 * intermediate;
    T* const to = out + size_t(blockIdx.x) * intermediate;
    const bool wide = intermediate % 8 == 0 && is_aligned(out) && is_aligned(gate_up);
    for (u32 at = 8 * threadIdx.x; at < intermediate; at += 8 * THREADS) {
        float gate[8], up[8];
        load(gate, from + at, intermediate - at, wide);
        load(up, from + intermediate + at, intermediate - at, wide);
#pragma unroll
        for (u32 k = 0; k < 8; ++k) up[k] *= gate[k] / (1.0f + expf(-gate[k]));
        store(to + at, up, intermediate - at, wide);
    }
}

// out[r, :] = silu(gate) * up of gate_up, [rows, gate | up]
#define SILU_MULTIPLY(name, T)                                                                             \
    KERNEL(silu_multiply_##name, THREADS, 1, T* out, const T* gate_up, u32 rows, u32 intermediate) {       \
        if (blockIdx.x < rows) silu_multiply(out, gate_up, intermediate);                                  \
    }
FOR_EVERY_TYPE(SILU_MULTIPLY)

template <typename T>
__device__ __forceinline__ void gather_row(T* out, const T* in, u32 row, u32 columns) {
    constexpr u32 TOGETHER = 16 / sizeof(T);
    const T* const from = in + size_t(row) * columns;
    T* const to = out + size_t(blockIdx.x) * columns;
    if (columns % TOGETHER == 0 && is_aligned(in) && is_aligned(out)) {
        for (u32 at = threadIdx.x; at < columns / TOGETHER; at += THREADS)
            reinterpret_cast<uint4*>(to)[at] = reinterpret_cast<const uint4*>(from)[at];
    } else {
        for (u32 at = threadIdx.x; at < columns; at += THREADS) to[at] = from[at];
    }
}

// out[r, :] = in[index[r], :]
#define GATHER_ROWS(name, T)                                                                                     \
    KERNEL(gather_rows_##name, THREADS, 1, T* out, const T* in, const u32* index, u32 rows, u32 columns) {       \
        if (blockIdx.x < rows) gather_row(out, in, index[blockIdx.x], columns);                                  \
    }
FOR_EVERY_TYPE(GATHER_ROWS)

// A number in [-1, 1): 24 bits of the i-th output of splitmix64.
__device__ __forceinline__ float uniform(u64 seed, u64 i) {
    u64 x = seed + (i + 1) * 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    x ^= x >> 31;
    return float(x >> 40) * (1.0f / (1 << 23)) - 1.0f;
}

// out[i] = scale * uniform(seed, i)
#define RANDOM(name, T)                                                                                    \
    KERNEL(random_##name, THREADS, 1, T* out, u64 count, u64 seed, float scale) {                          \
        const u64 stride = u64(gridDim.x) * THREADS;                                                       \
        for (u64 i = u64(blockIdx.x) * THREADS + threadIdx.x; i < count; i += stride)                      \
            out[i] = from_float<T>(scale * uniform(seed, i));                                              \
    }
FOR_EVERY_TYPE(RANDOM)
