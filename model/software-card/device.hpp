// What a kernel sees when it is compiled for the CPU: the words of CUDA C++ and software versions of the
// instructions it uses. Included by common.cuh in nvcc's place.
//
// Every CUDA thread is a fiber; the fibers of a block share one thread of the operating system. The emulator is
// an adversary where the card may be one: shared memory starts as NaN, fibers run in either order, and copies of
// cp.async land at once or only at the wait for them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

#include "emulator.hpp"

#define __global__
#define __device__
#define __forceinline__ inline

namespace software_card {

struct Kernel {
    const char* name;
    unsigned most_threads;
    Call (*bind)(void** parameters);
    const Kernel* next;
    Kernel(const char* name, unsigned most_threads, Call (*bind)(void**));
};

template <auto function>
struct Unpacked;

template <typename... Argument, void (*function)(Argument...)>
struct Unpacked<function> {
    template <std::size_t... at>
    static Call bind(void** parameters, std::index_sequence<at...>) {
        return [values = std::tuple<Argument...>(*static_cast<Argument*>(parameters[at])...)] { std::apply(function, values); };
    }
    static Call bind(void** parameters) { return bind(parameters, std::index_sequence_for<Argument...>{}); }
};

// Where a thread is: barriers are told apart by their place in the source.
struct Place {
    const char* file;
    int line;
    // As a default argument: the place of the call.
    static constexpr Place here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
        return {file, line};
    }
};

// What the running thread sees; set before it resumes.
struct Coordinates {
    Dim thread, block, block_size, grid_size;
};
extern thread_local Coordinates coordinates;

// Waits for the whole block.
void block_barrier(Place place);
// Waits for the whole warp; the last thread to come runs `all` over what every lane brought.
void warp_collective(Place place, void* mine, void (*all)(void* const* lanes, unsigned count));
// The block's dynamic shared memory.
void* dynamic_shared();
// Static shared memory: poisons it when the block meets it first.
void* static_shared(void* storage, std::size_t bytes);
// Ends the launch as failed; the thread does not go on.
[[noreturn]] void fail(Place place, const char* what);
// True when `bytes` at `address` lie in the block's dynamic shared memory.
bool in_dynamic_shared(const void* address, std::size_t bytes);
// cp.async: a copy of `bytes` of which the first `filled` come from `source` and the rest are zeros.
void copy_later(Place place, void* target, const void* source, unsigned bytes, unsigned filled);
void commit_copies();
void wait_for_copies(unsigned pending_groups);

// Brings a value and takes what `combine(values of all lanes, own lane, lanes)` gives.
template <typename T, typename Combine>
T exchange(Place place, T value, Combine combine) {
    struct Lane {
        T value, result;
        Combine* combine;
    } mine{value, value, &combine};
    warp_collective(place, &mine, [](void* const* lanes, unsigned count) {
        T values[32] = {};
        for (unsigned lane = 0; lane < count; ++lane) values[lane] = static_cast<Lane*>(lanes[lane])->value;
        for (unsigned lane = 0; lane < count; ++lane) {
            Lane& it = *static_cast<Lane*>(lanes[lane]);
            it.result = (*it.combine)(values, lane, count);
        }
    });
    return mine.result;
}

}  // namespace software_card

#define threadIdx (software_card::coordinates.thread)
#define blockIdx (software_card::coordinates.block)
#define blockDim (software_card::coordinates.block_size)
#define gridDim (software_card::coordinates.grid_size)

// A kernel: a function under its own name, and an entry in the table of kernels.
#define KERNEL(name, threads, min_blocks, ...)                                             \
    static void name(__VA_ARGS__);                                                         \
    static const software_card::Kernel name##_kernel(#name, threads,                       \
                                                     software_card::Unpacked<&name>::bind);\
    static void name(__VA_ARGS__)

// Shared memory of a fixed size.
#define SHARED_ARRAY(type, name, count)                \
    static thread_local type name##_storage[count];    \
    type* const name = static_cast<type*>(software_card::static_shared(name##_storage, sizeof(name##_storage)))

// The dynamic shared memory of the launch, 16-byte aligned.
#define DYNAMIC_SHARED(name) unsigned char* const name = static_cast<unsigned char*>(software_card::dynamic_shared())

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

inline void __syncthreads(software_card::Place place = software_card::Place::here()) {
    software_card::block_barrier(place);
}
inline void __syncwarp(unsigned = ~0u, software_card::Place place = software_card::Place::here()) {
    software_card::exchange(place, 0, [](const int*, unsigned, unsigned) { return 0; });
}
template <typename T>
T __shfl_sync(unsigned, T value, unsigned source, software_card::Place place = software_card::Place::here()) {
    struct Brought {
        T value;
        unsigned source;
    };
    return software_card::exchange(place, Brought{value, source}, [](const Brought* all, unsigned lane, unsigned) {
        return Brought{all[all[lane].source % 32].value, 0};
    }).value;
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, unsigned mask, software_card::Place place = software_card::Place::here()) {
    return software_card::exchange(place, value,
                                   [mask](const T* all, unsigned lane, unsigned) { return all[lane ^ mask]; });
}
inline unsigned __ballot_sync(unsigned, bool value, software_card::Place place = software_card::Place::here()) {
    return software_card::exchange(place, unsigned(value), [](const unsigned* all, unsigned, unsigned count) {
        unsigned bits = 0;
        for (unsigned lane = 0; lane < count; ++lane) bits |= all[lane] << lane;
        return bits;
    });
}
inline bool __all_sync(unsigned, bool value, software_card::Place place = software_card::Place::here()) {
    return software_card::exchange(place, value, [](const bool* all, unsigned, unsigned count) {
        for (unsigned lane = 0; lane < count; ++lane)
            if (!all[lane]) return false;
        return true;
    });
}
inline unsigned __reduce_max_sync(unsigned, unsigned value, software_card::Place place = software_card::Place::here()) {
    return software_card::exchange(place, value, [](const unsigned* all, unsigned, unsigned count) {
        unsigned largest = 0;
        for (unsigned lane = 0; lane < count; ++lane) largest = all[lane] > largest ? all[lane] : largest;
        return largest;
    });
}

inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline float rsqrtf(float value) { return 1.0f / std::sqrt(value); }

// bfloat16: the upper half of an f32.
struct bf16 {
    std::uint16_t bits;
};
// IEEE binary16.
struct f16 {
    std::uint16_t bits;
};

inline float to_float(float value) { return value; }
inline float to_float(bf16 value) { return __uint_as_float(std::uint32_t(value.bits) << 16); }
inline float to_float(f16 value) {
    const std::uint32_t sign = std::uint32_t(value.bits & 0x8000) << 16;
    const std::uint32_t rest = value.bits & 0x7fff;
    if (rest >= 0x7c00) return __uint_as_float(sign | 0x7f800000 | rest << 13);
    // 2^112 moves the exponent from f16's bias to f32's, and makes subnormal numbers normal.
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(rest << 13) * 0x1p112f));
}

template <typename T>
T from_float(float value);
template <>
inline float from_float<float>(float value) {
    return value;
}
template <>
inline bf16 from_float<bf16>(float value) {
    const std::uint32_t bits = __float_as_uint(value);
    if (value != value) return {0x7fff};
    // To the nearest, of two equally near the even one.
    return {std::uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
template <>
inline f16 from_float<f16>(float value) {
    const std::uint32_t bits = __float_as_uint(value);
    const std::uint16_t sign = std::uint16_t(bits >> 16 & 0x8000);
    const std::uint32_t size = bits & 0x7fffffff;
    if (size > 0x7f800000) return {0x7fff};
    if (size >= 0x477ff000) return {std::uint16_t(sign | 0x7c00)};
    if (size < 0x38800000) {
        // Subnormal in f16: adding 0.5 leaves its 2^-24 steps in the lowest bits, rounded to even.
        const float steps = __uint_as_float(size) + 0.5f;
        return {std::uint16_t(sign | (__float_as_uint(steps) - 0x3f000000))};
    }
    return {std::uint16_t(sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13))};
}

template <typename T>
std::uint32_t pack(float low, float high) {
    return from_float<T>(low).bits | std::uint32_t(from_float<T>(high).bits) << 16;
}
template <typename T>
float2 unpack(std::uint32_t both) {
    return {to_float(T{std::uint16_t(both)}), to_float(T{std::uint16_t(both >> 16)})};
}

// ex2.approx.ftz.f32: results below the smallest normal number are 0.
inline float exponential2(float value) { return value < -126.0f ? 0.0f : std::exp2(value); }

inline void copy_async(void* target, const void* source, bool filled,
                       software_card::Place place = software_card::Place::here()) {
    software_card::copy_later(place, target, source, 16, filled ? 16 : 0);
}
inline void commit_async() { software_card::commit_copies(); }
template <unsigned pending_groups>
void wait_async() {
    software_card::wait_for_copies(pending_groups);
}

namespace software_card {

// ldmatrix.x4 of 16-bit elements: lane 8 m + r brings row r of matrix m. Of each matrix lane l gets row l / 4,
// columns 2 (l % 4) and the next; when transposed, column l / 4 and these rows.
inline void load_four_matrices(Place place, std::uint32_t (&registers)[4], const void* row, bool transposed) {
    struct Lane {
        const unsigned char* row;
        std::uint32_t* registers;
        bool transposed;
        Place place;
    } mine{static_cast<const unsigned char*>(row), registers, transposed, place};
    warp_collective(place, &mine, [](void* const* lanes, unsigned count) {
        const auto lane_of = [&](unsigned lane) -> Lane& { return *static_cast<Lane*>(lanes[lane]); };
        const Place place = lane_of(0).place;
        if (count != 32) fail(place, "ldmatrix in a warp of fewer than 32 threads");
        std::uint16_t matrix[4][8][8];
        for (unsigned lane = 0; lane < 32; ++lane) {
            const unsigned char* const row = lane_of(lane).row;
            if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) fail(place, "ldmatrix of a misaligned row");
            if (!in_dynamic_shared(row, 16)) fail(place, "ldmatrix of a row outside shared memory");
            std::memcpy(matrix[lane / 8][lane % 8], row, 16);
        }
        for (unsigned lane = 0; lane < 32; ++lane)
            for (unsigned m = 0; m < 4; ++m) {
                const unsigned a = lane / 4, b = 2 * (lane % 4);
                lane_of(lane).registers[m] =
                    lane_of(0).transposed ? matrix[m][b][a] | std::uint32_t(matrix[m][b + 1][a]) << 16
                                          : matrix[m][a][b] | std::uint32_t(matrix[m][a][b + 1]) << 16;
            }
    });
}

}  // namespace software_card

inline void load_matrices(std::uint32_t (&registers)[4], const void* row,
                          software_card::Place place = software_card::Place::here()) {
    software_card::load_four_matrices(place, registers, row, false);
}
inline void load_matrices_transposed(std::uint32_t (&registers)[4], const void* row,
                                     software_card::Place place = software_card::Place::here()) {
    software_card::load_four_matrices(place, registers, row, true);
}

// mma.sync.aligned.m16n8k16: sum[16, 8] += a[16, 16] * b[16, 8]. With g = lane / 4 and t = lane % 4, a lane holds
// a[g or g + 8][2t, 2t + 1, and 8 on], b[2t, 2t + 1, and 8 on][g] and sum[g or g + 8][2t, 2t + 1].
template <typename T>
void multiply_add(float (&sum)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                  software_card::Place place = software_card::Place::here()) {
    struct Lane {
        float* sum;
        const std::uint32_t* a;
        std::uint32_t b[2];
        software_card::Place place;
    } mine{sum, a, {b0, b1}, place};
    software_card::warp_collective(place, &mine, [](void* const* lanes, unsigned count) {
        if (count != 32)
            software_card::fail(static_cast<Lane*>(lanes[0])->place, "mma in a warp of fewer than 32 threads");
        float left[16][16], right[16][8], total[16][8];
        for (unsigned lane = 0; lane < 32; ++lane) {
            const Lane& it = *static_cast<const Lane*>(lanes[lane]);
            const unsigned group = lane / 4, pair = 2 * (lane % 4);
            for (unsigned at = 0; at < 4; ++at) {
                const float2 both = unpack<T>(it.a[at]);
                float* const target = &left[group + 8 * (at % 2)][pair + 8 * (at / 2)];
                target[0] = both.x, target[1] = both.y;
            }
            for (unsigned at = 0; at < 2; ++at) {
                const float2 both = unpack<T>(it.b[at]);
                right[pair + 8 * at][group] = both.x, right[pair + 8 * at + 1][group] = both.y;
            }
            for (unsigned at = 0; at < 4; ++at) total[group + 8 * (at / 2)][pair + at % 2] = it.sum[at];
        }
        for (unsigned row = 0; row < 16; ++row)
            for (unsigned k = 0; k < 16; ++k)
                for (unsigned column = 0; column < 8; ++column)
                    total[row][column] += left[row][k] * right[k][column];
        for (unsigned lane = 0; lane < 32; ++lane) {
            float* const sum = static_cast<Lane*>(lanes[lane])->sum;
            const unsigned group = lane / 4, pair = 2 * (lane % 4);
            for (unsigned at = 0; at < 4; ++at) sum[at] = total[group + 8 * (at / 2)][pair + at % 2];
        }
    });
}
