// What is read off rows of logits, [rows, vocabulary]: one block works at one row.
#include "common.cuh"

namespace {

struct Row {
    const float* logits;
    u32 vocabulary;
    bool wide;

    __device__ Row(const float* logits, u32 vocabulary)
        : logits(logits + size_t(blockIdx.x) * vocabulary),
          vocabulary(vocabulary),
          wide(vocabulary % 8 == 0 && is_aligned(logits)) {}

    // Calls `visit(logit, token)` for this thread's part of the row, in the order of tokens.
    template <typename Visit>
    __device__ __forceinline__ void visit(Visit visit) const {
        for (u32 at = 8 * threadIdx.x; at < vocabulary; at += 8 * THREADS) {
            float values[8];
            load(values, logits + at, vocabulary - at, wide);
#pragma unroll
            for (u32 k = 0; k < 8; ++k)
                if (at + k < vocabulary) visit(values[k], at + k);
        }
    }
};

// What `summarise` leaves for a row.
struct Summary {
    float log_sum, margin;
    u32 best;
    float largest;
};

__device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ u32 lower(u32 a, u32 b) { return a < b ? a : b; }
__device__ __forceinline__ u32 higher(u32 a, u32 b) { return a > b ? a : b; }

}  // namespace

// summary[r] = {ln of the sum of exp(logit), largest - second largest, first token of the largest, largest}
KERNEL(summarise_f32, THREADS, 1, float* summary, const float* logits, u32 rows, u32 vocabulary) {
    if (blockIdx.x >= rows) return;
    const Row row(logits, vocabulary);
    float mine = -INFINITY, second = -INFINITY;
    u32 token_of_mine = ~0u;
    row.visit([&](float logit, u32 token) {
        if (logit > mine) {
            second = mine;
            mine = logit;
            token_of_mine = token;
        } else {
            second = fmaxf(second, logit);
        }
    });
    const float largest = across_block(mine, larger);
    const u32 best = across_block(mine == largest ? token_of_mine : ~0u, lower);
    second = across_block(token_of_mine == best ? second : mine, larger);

    double sum = 0.0;
    row.visit([&](float logit, u32) { sum += expf(logit - largest); });
    sum = sum_of_block(sum);
    if (threadIdx.x == 0)
        reinterpret_cast<Summary*>(summary)[blockIdx.x] = {float(double(largest) + log(sum)), largest - second,
                                                           best == ~0u ? 0 : best, largest};
}

// out[i] = logits[rows[i], tokens[i]] - log_sum of the row
KERNEL(target_log_probs_f32, THREADS, 1, float* out, const float* logits, const float* summary, const u32* rows,
       const u32* tokens, u32 count, u32 vocabulary) {
    const u32 i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= count) return;
    out[i] = tokens[i] < vocabulary ? logits[size_t(rows[i]) * vocabulary + tokens[i]] -
                                          reinterpret_cast<const Summary*>(summary)[rows[i]].log_sum
                                    : NAN;
}

namespace {

// The order of logits as whole numbers, a greater one for a greater logit: Rust's `f32::total_cmp`.
__device__ __forceinline__ u32 order_of(float logit) {
    const u32 bits = __float_as_uint(logit);
    return bits >> 31 ? ~bits : bits | 1u << 31;
}
__device__ __forceinline__ float logit_of(u32 order) {
    return __uint_as_float(order >> 31 ? order & ~(1u << 31) : ~order);
}

// The tokens that count, of a row sorted by descending logit, then by token: all above `order`, and the first
// `ties` of those at it.
struct Prefix {
    u32 order, ties;
    // Weight of the tokens above `order`, and of all that count.
    double above, weight;
};

// Draws from one row by bisection of the order of logits, where one would else sort.
struct Draw {
    Row row;
    float largest, temperature;

    __device__ __forceinline__ double weight_of(float logit) const {
        return expf((logit - largest) / temperature);
    }

    // The greatest order such that the weights of the logits from it on are enough; 0 when all are not.
    template <typename Weight, typename Enough>
    __device__ __forceinline__ u32 search(Weight weight, Enough enough) const {
        u32 found = 0;
#pragma unroll 1
        // Two bits of the order at a time.
        for (int shift = 30; shift >= 0; shift -= 2) {
            const u32 step = 1u << shift;
            double from_one = 0.0, from_two = 0.0, from_three = 0.0;
            row.visit([&](float logit, u32) {
                const u32 order = order_of(logit);
                if (order < found + step) return;
                const double it = weight(logit);
                from_one += it;
                if (order >= found + 2 * step) from_two += it;
                if (order >= found + 3 * step) from_three += it;
            });
            from_one = sum_of_block(from_one);
            from_two = sum_of_block(from_two);
            from_three = sum_of_block(from_three);
            found += step * (enough(from_three) ? 3 : enough(from_two) ? 2 : enough(from_one) ? 1 : 0);
        }
        return found;
    }

    // Counts the tokens at `order` and weighs those above it.
    __device__ __forceinline__ Prefix up_to(u32 order) const {
        double above = 0.0;
        u32 ties = 0;
        row.visit([&](float logit, u32) {
            const u32 it = order_of(logit);
            if (it > order) above += weight_of(logit);
            ties += it == order;
        });
        return whole({order, sum_of_block(ties), sum_of_block(above), 0.0});
    }

    __device__ __forceinline__ Prefix whole(Prefix it) const {
        it.weight = it.above + it.ties * weight_of(logit_of(it.order));
        return it;
    }

    // The shortest prefix, of one token at least, that weighs enough; `kept` when none does. `needed` is the weight
    // that ties have to bring, rounded to a whole number of them by `round`.
    template <typename Enough, typename Round>
    __device__ __forceinline__ Prefix shortest(const Prefix& kept, u32 highest, double wanted, Enough enough,
                                               Round round) const {
        const auto weight = [&](float logit) { return weight_of(logit); };
        const u32 order = lower(search(weight, enough), highest);
        Prefix found = order <= kept.order ? kept : up_to(order);
        const double of_one = weight_of(logit_of(found.order));
        // Also where `of_one` is 0 or not a number, all ties remain.
        const double needed = round((wanted - found.above) / of_one);
        if (needed < found.ties) found.ties = needed > 1.0 ? u32(needed) : 1;
        return whole(found);
    }
};

}  // namespace

// tokens[r] = the token at `draw` of the way through the kept probabilities, the most likely first, where
// choices[r] = {draw, temperature, top_p, top_k}: what sampling.rs draws.
KERNEL(sample_f32, THREADS, 1, u32* tokens, const float* logits, const float* summary, const double* choices, u32 rows,
       u32 vocabulary) {
    if (blockIdx.x >= rows) return;
    const Summary known = reinterpret_cast<const Summary*>(summary)[blockIdx.x];
    const double* const choice = choices + 4 * size_t(blockIdx.x);
    const double draw = choice[0], top_p = choice[2], top_k = choice[3];
    const float temperature = float(choice[1]);
    // Colder than this, one token has all the weight; and a row that holds NaN is nobody's to draw from.
    if (!(temperature >= 1e-6f) || top_k == 1.0 || known.log_sum != known.log_sum) {
        if (threadIdx.x == 0) tokens[blockIdx.x] = known.best;
        return;
    }
    const Draw from{Row(logits, vocabulary), known.largest, temperature};

    u32 lowest = ~0u, highest = 0;
    from.row.visit([&](float logit, u32) {
        lowest = lower(lowest, order_of(logit));
        highest = higher(highest, order_of(logit));
    });
    lowest = across_block(lowest, lower);
    highest = across_block(highest, higher);

    Prefix kept = from.up_to(lowest);
    if (top_k > 0.0 && top_k < vocabulary) {
        const auto one = [](float) { return 1.0; };
        kept = from.up_to(from.search(one, [&](double count) { return count >= top_k; }));
        u32 above = 0;
        from.row.visit([&](float logit, u32) { above += order_of(logit) > kept.order; });
        kept.ties = u32(top_k) - sum_of_block(above);
        kept = from.whole(kept);
    }
    if (top_p < 1.0) {
        const double wanted = fmax(top_p, 0.0) * kept.weight;
        kept = from.shortest(
            kept, highest, wanted, [&](double weight) { return weight >= wanted; },
            [](double ties) { return ceil(ties); });
    }
    const double target = draw * kept.weight;
    kept = from.shortest(
        kept, highest, target, [&](double weight) { return weight > target; },
        [](double ties) { return floor(ties) + 1.0; });

    // The last tie of the prefix: every thread counts those in its share of the tokens.
    SHARED_ARRAY(u32, ties_of, THREADS);
    const u32 share = (vocabulary + THREADS - 1) / THREADS;
    const u32 begin = lower(threadIdx.x * share, vocabulary), end = lower(begin + share, vocabulary);
    u32 ties = 0;
    for (u32 token = begin; token < end; ++token) ties += order_of(from.row.logits[token]) == kept.order;
    ties_of[threadIdx.x] = ties;
    __syncthreads();
    u32 left = kept.ties;
    for (u32 thread = 0; thread < threadIdx.x; ++thread) left = left > ties_of[thread] ? left - ties_of[thread] : 0;
    if (left == 0 || left > ties) return;
    for (u32 token = begin; token < end; ++token)
        if (order_of(from.row.logits[token]) == kept.order && --left == 0) tokens[blockIdx.x] = token;
}
