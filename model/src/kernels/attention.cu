// Attention of rows over keys and values that lie anywhere in the cache, by tables that any tree of tokens gives.
//
// tiles[t] = {first_row, rows, first_step, step_count}: what one block works at, for one head of the cache. Query j
// of a tile is row first_row + j / group, head kv_head * group + j % group; rows * group <= QROWS.
// steps[s] = {window, begin, end, 0}: rows begin..end of the tile, counted from its first, attend to the keys at
// positions window * W + k, which lie in slots[s * W + k] (NO_SLOT: nowhere), as far as their own position. The
// windows of a row ascend, and it meets each once at most: so its result depends on nothing but its own keys.
//
// attention_<type>_h<SIZE>_q<QROWS>: grid (tiles, kv_heads), 2 * QROWS threads. W = 64 where QROWS = 64, W = 32 where
// QROWS = 16. Dynamic shared memory, in bytes:
//     bytes of the type * SIZE * (type is f32 ? QROWS + 2 * W : QROWS == 64 ? 4 * W : 6 * W)
// `fused`, `kv`, `out`, `cosine` and `sine` are 16-byte aligned.
#include "common.cuh"

namespace {

constexpr u32 NO_SLOT = ~0u;
// Queries of a warp: the rows of the tensor cores' matrices.
constexpr u32 QUERIES = 16;

template <typename T>
struct Arguments {
    T* out;
    const T* fused;
    const T* kv;
    const u32 *tiles, *steps, *slots, *positions;
    const float *cosine, *sine;
    u32 heads, kv_heads;
    u64 capacity;
    float scale;
};

// Where the numbers of a tile [rows, SIZE] lie in shared memory, by chunks of 16 bytes.
template <typename T, u32 SIZE>
struct Layout {
    static constexpr u32 CHUNK = 16 / sizeof(T);
    static constexpr u32 CHUNKS = SIZE / CHUNK;
    // Threads that copy a row together.
    static constexpr u32 TOGETHER = CHUNKS % 8 == 0 ? 8 : CHUNKS % 4 == 0 ? 4 : 2;

    // Chunks are exchanged so that the same one of eight neighbouring rows lies in eight different banks.
    __device__ static __forceinline__ u32 at(u32 row, u32 chunk) {
        return row * SIZE + (chunk ^ (row / (8 / TOGETHER) % TOGETHER)) * CHUNK;
    }
};

template <typename T, u32 SIZE, u32 QROWS>
struct Tile : Arguments<T>, Layout<T, SIZE> {
    using L = Layout<T, SIZE>;
    static constexpr u32 W = QROWS == 64 ? 64 : 32;
    static constexpr u32 THREADS = QROWS / QUERIES * 32;
    // One bit for each key of a window.
    static constexpr u32 WORDS = W / 32;

    u32 group, first_row, rows, first_step, step_count;
    u32 lane, warp;
    // Of rows `lane` and, where there are so many, `lane` + 32.
    u32 lane_positions[(QROWS + 31) / 32];

    // What the tables say of a step, read before it is needed; of slots, those of keys `lane` and `lane` + 32.
    struct Ahead {
        u32 window, begin, end;
        u32 slots[WORDS];
    };

    // A step whose keys and values are on their way.
    struct Step {
        u32 window, begin, end;
        // The keys that exist and that any row sees.
        u32 visible[WORDS];
    };

    // A query as the thread that works at it sees it.
    struct Query {
        // `row` counts from the tile's first; beyond its rows where there is no query.
        u32 row, position;
    };

    __device__ __forceinline__ explicit Tile(const Arguments<T>& arguments) : Arguments<T>(arguments) {
        const u32* const tile = this->tiles + 4 * blockIdx.x;
        first_row = tile[0], rows = tile[1], first_step = tile[2], step_count = tile[3];
        group = this->heads / this->kv_heads;
        lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
        for (u32 part = 0; part < (QROWS + 31) / 32; ++part)
            lane_positions[part] = lane + 32 * part < rows ? this->positions[first_row + lane + 32 * part] : 0;
    }

    __device__ __forceinline__ Query query(u32 at) const {
        const u32 row = at / group;
        return {row, row < rows ? this->positions[first_row + row] : 0};
    }

    __device__ __forceinline__ Ahead read(u32 step) const {
        Ahead ahead = {};
        if (step < step_count) {
            const u32* const table = this->steps + 4 * size_t(first_step + step);
            ahead.window = table[0], ahead.begin = table[1], ahead.end = table[2];
#pragma unroll
            for (u32 word = 0; word < WORDS; ++word)
                ahead.slots[word] = this->slots[size_t(first_step + step) * W + 32 * word + lane];
        }
        return ahead;
    }

    // Starts to copy the keys and values of a step; what no row sees becomes zeros.
    __device__ __forceinline__ Step start(const Ahead& ahead, T* keys, T* values) const {
        Step step = {ahead.window, ahead.begin, ahead.end, {}};
        u32 furthest = 0;
#pragma unroll
        for (u32 part = 0; part < (QROWS + 31) / 32; ++part)
            if (lane + 32 * part >= step.begin && lane + 32 * part < step.end)
                furthest = furthest > lane_positions[part] ? furthest : lane_positions[part];
        furthest = __reduce_max_sync(WARP, furthest);
#pragma unroll
        for (u32 word = 0; word < WORDS; ++word)
            step.visible[word] = __ballot_sync(
                WARP, ahead.slots[word] != NO_SLOT && step.window * W + 32 * word + lane <= furthest);

        constexpr u32 ROWS = THREADS / L::TOGETHER;
#pragma unroll
        for (u32 first = 0; first < W; first += ROWS) {
            const u32 row = first + threadIdx.x / L::TOGETHER, word = row / 32 % WORDS;
            // The rows of a warp lie in the same word.
            const u32 slot = __shfl_sync(WARP, word == 0 ? ahead.slots[0] : ahead.slots[WORDS - 1], row % 32);
            const bool filled = (word == 0 ? step.visible[0] : step.visible[WORDS - 1]) >> row % 32 & 1;
            const size_t stride = size_t(this->kv_heads) * SIZE;
            const T* const key = this->kv + (filled ? slot * stride : 0) + blockIdx.y * SIZE;
            const T* const value = key + this->capacity * stride;
#pragma unroll
            for (u32 turn = 0; turn < L::CHUNKS; turn += L::TOGETHER) {
                const u32 chunk = turn + threadIdx.x % L::TOGETHER;
                copy_async(keys + L::at(row, chunk), key + chunk * L::CHUNK, filled);
                copy_async(values + L::at(row, chunk), value + chunk * L::CHUNK, filled);
            }
        }
        return step;
    }

    // Whether this warp has a query among the rows of a step.
    __device__ __forceinline__ bool takes_part(const Step& step) const {
        return step.begin * group < (warp + 1) * QUERIES && step.end * group > warp * QUERIES;
    }

    // The keys 32 * word .. of the step that a query sees, as bits.
    __device__ static __forceinline__ u32 seen(const Step& step, const Query& query, u32 word) {
        const u32 first = step.window * W + 32 * word;
        if (query.row < step.begin || query.row >= step.end || query.position < first) return 0;
        const u32 last = query.position - first;
        return step.visible[word] & (last >= 31 ? ~0u : (2u << last) - 1);
    }

    // Writes the warp's queries, rotated to their positions, in chunks or, for f32, plainly.
    __device__ __forceinline__ void load_queries(T* queries) const {
        constexpr u32 PARTS = SIZE / 16;
        for (u32 item = lane; item < QUERIES * PARTS; item += 32) {
            const u32 at = warp * QUERIES + item / PARTS, part = item % PARTS;
            const Query it = query(at);
            float a[8] = {}, b[8] = {};
            if (it.row < rows) {
                const size_t row = size_t(first_row + it.row) * (this->heads + 2 * this->kv_heads);
                const T* const from = this->fused + (row + blockIdx.y * group + at % group) * SIZE + 8 * part;
                const size_t angle = size_t(it.position) * (SIZE / 2) + 8 * part;
                float c[8], s[8];
                load(a, from, 8, true);
                load(b, from + SIZE / 2, 8, true);
                load(c, this->cosine + angle, 8, true);
                load(s, this->sine + angle, 8, true);
#pragma unroll
                for (u32 k = 0; k < 8; ++k) {
                    const float rotated = a[k] * c[k] - b[k] * s[k];
                    b[k] = b[k] * c[k] + a[k] * s[k];
                    a[k] = rotated;
                }
            }
            if constexpr (sizeof(T) == 4) {
                store(queries + at * SIZE + 8 * part, a, 8, true);
                store(queries + at * SIZE + SIZE / 2 + 8 * part, b, 8, true);
            } else {
                store(queries + L::at(at, part), a, 8, true);
                store(queries + L::at(at, PARTS + part), b, 8, true);
            }
        }
    }

    __device__ __forceinline__ T* out_of(u32 at, const Query& query) const {
        return this->out + (size_t(first_row + query.row) * this->heads + blockIdx.y * group + at % group) * SIZE;
    }
};

// The running maximum (times scale * log2(e)) and sum of one query; a thread's sum is of its own keys only.
struct Softmax {
    float largest = -INFINITY, sum = 0.0f;

    // Takes in a step's largest score; returns what all that was summed before must be multiplied by: exactly 1
    // where the maximum stays. `shift` becomes what scores are lowered by.
    __device__ __forceinline__ float rise(float score, float factor, float& shift) {
        const float risen = fmaxf(largest, score * factor);
        // A query that has seen no key yet: any finite shift makes its weights 0.
        shift = risen == -INFINITY ? 0.0f : risen;
        const float kept = exponential2(largest - shift);
        largest = risen;
        sum *= kept;
        return kept;
    }
};

constexpr float LOG2_E = 1.44269504088896340736f;

// sums[16 queries, SIZE] += weights[16, W] * values[W, SIZE], as the lanes of a warp hold them. `partial` where
// queries exist that see no key and must not change: 0 times another query's infinite value would not be 0.
template <bool partial, typename T, u32 SIZE, u32 W>
__device__ __forceinline__ void add_values(float (&sums)[SIZE / 8][4], const u32 (&weights)[W / 16][4],
                                           const T* values, const bool (&touched)[2]) {
    using L = Layout<T, SIZE>;
    const u32 row_of_matrix = threadIdx.x % 8, matrix = threadIdx.x % 32 / 8;
#pragma unroll
    for (u32 pair = 0; pair < SIZE / 16; ++pair) {
        float low[4], high[4];
#pragma unroll
        for (u32 i = 0; i < 4; ++i) low[i] = sums[2 * pair][i], high[i] = sums[2 * pair + 1][i];
#pragma unroll
        for (u32 k = 0; k < W / 16; ++k) {
            u32 b[4];
            load_matrices_transposed(b, values + L::at(16 * k + matrix % 2 * 8 + row_of_matrix, 2 * pair + matrix / 2));
            multiply_add<T>(low, weights[k], b[0], b[1]);
            multiply_add<T>(high, weights[k], b[2], b[3]);
        }
        // Keeps the compiler from working at many pairs at once, which takes forty more registers.
        if (partial) __syncwarp();
#pragma unroll
        for (u32 i = 0; i < 4; ++i)
            if (!partial || touched[i / 2]) sums[2 * pair][i] = low[i], sums[2 * pair + 1][i] = high[i];
    }
}

// On tensor cores: a lane holds queries lane / 4 and lane / 4 + 8 of its warp, and of every eight keys or
// dimensions 2 * (lane % 4) and the next.
template <typename T, u32 SIZE, u32 QROWS>
__device__ __forceinline__ void attend(const Arguments<T>& arguments) {
    using A = Tile<T, SIZE, QROWS>;
    using L = Layout<T, SIZE>;
    constexpr u32 W = A::W, STAGES = QROWS == 64 ? 2 : 3;
    DYNAMIC_SHARED(shared);
    const A tile(arguments);
    const auto keys_of = [&](u32 stage) { return reinterpret_cast<T*>(shared) + stage * 2 * W * SIZE; };

    typename A::Ahead ahead = tile.read(0);
    typename A::Step waiting[STAGES - 1];
#pragma unroll
    for (u32 at = 0; at < STAGES - 1; ++at) {
        if (at < tile.step_count) waiting[at] = tile.start(ahead, keys_of(at), keys_of(at) + W * SIZE);
        commit_async();
        ahead = tile.read(at + 1);
    }

    // The queries pass through the stage that is filled last. A warp reads its own only.
    const u32 row_of_matrix = tile.lane % 8, matrix = tile.lane / 8;
    u32 queries[SIZE / 16][4];
    T* const passing = keys_of(STAGES - 1);
    tile.load_queries(passing);
    __syncwarp();
#pragma unroll
    for (u32 k = 0; k < SIZE / 16; ++k)
        load_matrices(queries[k], passing + L::at(tile.warp * QUERIES + matrix % 2 * 8 + row_of_matrix,
                                                  2 * k + matrix / 2));

    const float factor = tile.scale * LOG2_E;
    const u32 first_query = tile.warp * QUERIES + tile.lane / 4;
    const typename A::Query own[2] = {tile.query(first_query), tile.query(first_query + 8)};
    Softmax softmax[2];
    float sums[SIZE / 8][4] = {};

    u32 stage = 0, free_stage = STAGES - 1;
    for (u32 at = 0; at < tile.step_count; ++at) {
        // This step's copies are there, and no warp reads the stage of the step before any more.
        wait_async<STAGES - 2>();
        __syncthreads();
        const typename A::Step step = waiting[0];
#pragma unroll
        for (u32 later = 0; later + 1 < STAGES - 1; ++later) waiting[later] = waiting[later + 1];
        if (at + STAGES - 1 < tile.step_count)
            waiting[STAGES - 2] = tile.start(ahead, keys_of(free_stage), keys_of(free_stage) + W * SIZE);
        commit_async();
        ahead = tile.read(at + STAGES);
        const T* const keys = keys_of(stage);
        const T* const values = keys + W * SIZE;
        free_stage = stage;
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        if (!tile.takes_part(step)) continue;

        float scores[W / 8][4] = {};
#pragma unroll
        for (u32 k = 0; k < SIZE / 16; ++k)
#pragma unroll
            for (u32 pair = 0; pair < W / 16; ++pair) {
                u32 b[4];
                load_matrices(b, keys + L::at(16 * pair + matrix / 2 * 8 + row_of_matrix, 2 * k + matrix % 2));
                multiply_add<T>(scores[2 * pair], queries[k], b[0], b[1]);
                multiply_add<T>(scores[2 * pair + 1], queries[k], b[2], b[3]);
            }

        u32 seen[2][A::WORDS];
        bool all_seen = true, touched[2] = {};
#pragma unroll
        for (u32 half = 0; half < 2; ++half)
#pragma unroll
            for (u32 word = 0; word < A::WORDS; ++word) {
                seen[half][word] = A::seen(step, own[half], word);
                all_seen &= seen[half][word] == ~0u;
                touched[half] |= seen[half][word] != 0;
            }
        if (!__all_sync(WARP, all_seen)) {
#pragma unroll
            for (u32 key = 0; key < W / 8; ++key)
#pragma unroll
                for (u32 i = 0; i < 4; ++i)
                    if (!(seen[i / 2][key / 4] >> (key % 4 * 8 + tile.lane % 4 * 2 + i % 2) & 1))
                        scores[key][i] = -INFINITY;
        }

        float kept[2];
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            float largest = -INFINITY, shift;
#pragma unroll
            for (u32 key = 0; key < W / 8; ++key)
                largest = fmaxf(largest, fmaxf(scores[key][2 * half], scores[key][2 * half + 1]));
            largest = fmaxf(largest, __shfl_xor_sync(WARP, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(WARP, largest, 2));
            kept[half] = softmax[half].rise(largest, factor, shift);
#pragma unroll
            for (u32 key = 0; key < W / 8; ++key)
#pragma unroll
                for (u32 i = 2 * half; i < 2 * half + 2; ++i) {
                    scores[key][i] = exponential2(fmaf(scores[key][i], factor, -shift));
                    softmax[half].sum += scores[key][i];
                }
        }
        // Once the maxima are found, they seldom move.
        if (!__all_sync(WARP, kept[0] == 1.0f && kept[1] == 1.0f)) {
#pragma unroll
            for (u32 n = 0; n < SIZE / 8; ++n)
#pragma unroll
                for (u32 i = 0; i < 4; ++i) sums[n][i] *= kept[i / 2];
        }

        u32 weights[W / 16][4];
#pragma unroll
        for (u32 k = 0; k < W / 16; ++k)
#pragma unroll
            for (u32 i = 0; i < 4; ++i)
                weights[k][i] = pack<T>(scores[2 * k + i / 2][i % 2 * 2], scores[2 * k + i / 2][i % 2 * 2 + 1]);
        if (__all_sync(WARP, touched[0] && touched[1]))
            add_values<false, T, SIZE, W>(sums, weights, values, touched);
        else
            add_values<true, T, SIZE, W>(sums, weights, values, touched);
    }

#pragma unroll
    for (u32 half = 0; half < 2; ++half) {
        float sum = softmax[half].sum;
        sum += __shfl_xor_sync(WARP, sum, 1);
        sum += __shfl_xor_sync(WARP, sum, 2);
        if (own[half].row >= tile.rows) continue;
        const float share = 1.0f / sum;
        u32* const out = reinterpret_cast<u32*>(tile.out_of(first_query + 8 * half, own[half])) + tile.lane % 4;
#pragma unroll
        for (u32 n = 0; n < SIZE / 8; ++n)
            out[4 * n] = pack<T>(sums[n][2 * half] * share, sums[n][2 * half + 1] * share);
    }
}

// In f32 on the plain cores: a lane holds four queries, lane / 8 and every fourth on, and of every eight keys the
// (lane % 8)-th, of every sixteen dimensions two.
template <u32 SIZE, u32 QROWS>
__device__ __forceinline__ void attend(const Arguments<float>& arguments) {
    using A = Tile<float, SIZE, QROWS>;
    using L = Layout<float, SIZE>;
    constexpr u32 W = A::W, HELD = 4;
    DYNAMIC_SHARED(shared);
    const A tile(arguments);
    float* const queries = reinterpret_cast<float*>(shared);
    float* const keys = queries + QROWS * SIZE;
    float* const values = keys + W * SIZE;
    const u32 eighth = tile.lane % 8, first_query = tile.warp * QUERIES + tile.lane / 8;
    tile.load_queries(queries);

    const float factor = tile.scale * LOG2_E;
    typename A::Query own[HELD];
    Softmax softmax[HELD];
    float2 sums[HELD][SIZE / 16] = {};
#pragma unroll
    for (u32 i = 0; i < HELD; ++i) own[i] = tile.query(first_query + 4 * i);

    typename A::Ahead ahead = tile.read(0);
    for (u32 at = 0; at < tile.step_count; ++at) {
        // No warp reads the step before any more.
        __syncthreads();
        const typename A::Step step = tile.start(ahead, keys, values);
        commit_async();
        ahead = tile.read(at + 1);
        wait_async<0>();
        __syncthreads();
        if (!tile.takes_part(step)) continue;

        float weights[HELD][W / 8] = {};
#pragma unroll 2
        for (u32 chunk = 0; chunk < L::CHUNKS; ++chunk) {
            float4 q[HELD];
#pragma unroll
            for (u32 i = 0; i < HELD; ++i)
                q[i] = reinterpret_cast<const float4*>(queries + (first_query + 4 * i) * SIZE)[chunk];
#pragma unroll
            for (u32 key = 0; key < W / 8; ++key) {
                const float4 k = *reinterpret_cast<const float4*>(keys + L::at(8 * key + eighth, chunk));
#pragma unroll
                for (u32 i = 0; i < HELD; ++i) {
                    float& score = weights[i][key];
                    score = fmaf(q[i].x, k.x, score);
                    score = fmaf(q[i].y, k.y, score);
                    score = fmaf(q[i].z, k.z, score);
                    score = fmaf(q[i].w, k.w, score);
                }
            }
        }

        bool touched[HELD] = {};
#pragma unroll
        for (u32 i = 0; i < HELD; ++i) {
#pragma unroll
            for (u32 word = 0; word < A::WORDS; ++word) touched[i] |= A::seen(step, own[i], word) != 0;
            float largest = -INFINITY, shift;
#pragma unroll
            for (u32 key = 0; key < W / 8; ++key) {
                if (!(A::seen(step, own[i], key / 4) >> (key % 4 * 8 + eighth) & 1)) weights[i][key] = -INFINITY;
                largest = fmaxf(largest, weights[i][key]);
            }
#pragma unroll
            for (u32 distance = 1; distance < 8; distance *= 2)
                largest = fmaxf(largest, __shfl_xor_sync(WARP, largest, distance));
            const float kept = softmax[i].rise(largest, factor, shift);
#pragma unroll
            for (u32 key = 0; key < W / 8; ++key) {
                weights[i][key] = exponential2(fmaf(weights[i][key], factor, -shift));
                softmax[i].sum += weights[i][key];
            }
#pragma unroll
            for (u32 n = 0; n < SIZE / 16; ++n) sums[i][n].x *= kept, sums[i][n].y *= kept;
        }

#pragma unroll
        for (u32 key = 0; key < W / 8; ++key)
#pragma unroll 2
            for (u32 part = 0; part < 8; ++part) {
                float weight[HELD];
#pragma unroll
                for (u32 i = 0; i < HELD; ++i)
                    weight[i] = __shfl_sync(WARP, weights[i][key], (tile.lane & ~7u) + part);
#pragma unroll
                for (u32 n = 0; n < SIZE / 16; ++n) {
                    const float2 v = *reinterpret_cast<const float2*>(
                        values + L::at(8 * key + part, 4 * n + eighth / 2) + eighth % 2 * 2);
                    // As in add_values.
#pragma unroll
                    for (u32 i = 0; i < HELD; ++i)
                        if (touched[i]) {
                            sums[i][n].x = fmaf(weight[i], v.x, sums[i][n].x);
                            sums[i][n].y = fmaf(weight[i], v.y, sums[i][n].y);
                        }
                }
            }
    }

#pragma unroll
    for (u32 i = 0; i < HELD; ++i) {
        float sum = softmax[i].sum;
#pragma unroll
        for (u32 distance = 1; distance < 8; distance *= 2) sum += __shfl_xor_sync(WARP, sum, distance);
        if (own[i].row >= tile.rows) continue;
        float2* const out = reinterpret_cast<float2*>(tile.out_of(first_query + 4 * i, own[i])) + eighth;
#pragma unroll
        for (u32 n = 0; n < SIZE / 16; ++n) out[8 * n] = {sums[i][n].x / sum, sums[i][n].y / sum};
    }
}

template <u32 SIZE, u32 QROWS, typename T>
__device__ __forceinline__ void attention(const Arguments<T>& arguments) {
    if constexpr (sizeof(T) == 4)
        attend<SIZE, QROWS>(arguments);
    else
        attend<T, SIZE, QROWS>(arguments);
}

}  // namespace

#define ATTENTION(name, T, SIZE, QROWS, blocks)                                                                      \
    KERNEL(attention_##name##_h##SIZE##_q##QROWS, 2 * QROWS, blocks, T* out, const T* fused, const T* kv,            \
           const u32* tiles, const u32* steps, const u32* slots, const u32* positions, const float* cosine,          \
           const float* sine, u32 heads, u32 kv_heads, u64 capacity, float scale) {                                  \
        attention<SIZE, QROWS>(Arguments<T>{out, fused, kv, tiles, steps, slots, positions, cosine, sine, heads,     \
                                            kv_heads, capacity, scale});                                             \
    }
// The last number is the blocks that should fit one multiprocessor: registers are given out by it.
#define FOR_EVERY_SIZE(name, T)                                     \
    ATTENTION(name, T, 32, 64, 3) ATTENTION(name, T, 32, 16, 8)     \
    ATTENTION(name, T, 64, 64, 3) ATTENTION(name, T, 64, 16, 8)     \
    ATTENTION(name, T, 80, 64, 2) ATTENTION(name, T, 80, 16, 8)     \
    ATTENTION(name, T, 96, 64, 2) ATTENTION(name, T, 96, 16, 8)     \
    ATTENTION(name, T, 128, 64, 2) ATTENTION(name, T, 128, 16, 8)
FOR_EVERY_TYPE(FOR_EVERY_SIZE)
