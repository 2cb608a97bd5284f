// What the kernels share: number types, memory accesses, tensor-core instructions and reductions.
//
// The same sources are compiled by nvcc for the card, and by a C++ compiler (-DSOFTWARE_CARD) for a software card
// whose device.hpp defines the part between #else and #endif in its own way.
#pragma once

#ifdef SOFTWARE_CARD
#include "../../software-card/device.hpp"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>

// A kernel: its name, the threads of a block, the blocks that should fit one multiprocessor, its arguments.
#define KERNEL(name, threads, min_blocks, ...) \
    extern "C" __global__ void __launch_bounds__(threads, min_blocks) name(__VA_ARGS__)

// Shared memory of a fixed size.
#define SHARED_ARRAY(type, name, count) __shared__ type name[count]

// The dynamic shared memory of the launch.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

using bf16 = __nv_bfloat16;
using f16 = __half;

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(bf16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float to_float(f16 value) { return __half2float(value); }

// Rounds to the nearest, of two equally near to the even one.
template <typename T>
__device__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) { return value; }
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float value) { return __float2bfloat16_rn(value); }
template <>
__device__ __forceinline__ f16 from_float<f16>(float value) { return __float2half_rn(value); }

// Two 16-bit numbers in one register, the first in the low half.
template <typename T>
__device__ unsigned pack(float low, float high);
template <>
__device__ __forceinline__ unsigned pack<bf16>(float low, float high) {
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
template <>
__device__ __forceinline__ unsigned pack<f16>(float low, float high) {
    unsigned both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
template <typename T>
__device__ float2 unpack(unsigned both);
template <>
__device__ __forceinline__ float2 unpack<bf16>(unsigned both) {
    return {__uint_as_float(both << 16), __uint_as_float(both & 0xffff0000)};
}
template <>
__device__ __forceinline__ float2 unpack<f16>(unsigned both) {
    return {__half2float(__ushort_as_half(both & 0xffff)), __half2float(__ushort_as_half(both >> 16))};
}

// 2^value by the card's own instruction: exactly 1 at 0, exactly 0 at minus infinity.
__device__ __forceinline__ float exponential2(float value) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(value));
    return power;
}

__device__ __forceinline__ unsigned shared_address(const void* address) {
    return static_cast<unsigned>(__cvta_generic_to_shared(address));
}

// Starts a copy of 16 bytes to shared memory; zeros unless `filled`.
__device__ __forceinline__ void copy_async(void* target, const void* source, bool filled) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(target)), "l"(source),
                 "r"(filled ? 16 : 0)
                 : "memory");
}
// Ends a group of copies.
__device__ __forceinline__ void commit_async() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most so many groups of this thread are under way.
template <unsigned pending_groups>
__device__ __forceinline__ void wait_async() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending_groups) : "memory");
}

// Four matrices of 8 rows of eight 16-bit numbers: lane 8 m + r gives the address of row r of matrix m. Of each,
// lane l gets row l / 4, columns 2 (l % 4) and the next.
__device__ __forceinline__ void load_matrices(unsigned (&registers)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// The same of the transposed matrices.
__device__ __forceinline__ void load_matrices_transposed(unsigned (&registers)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// sum[16, 8] += a[16, 16] * b[16, 8] on the tensor cores, summed in f32.
template <typename T>
__device__ void multiply_add(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
#define MULTIPLY_ADD(T, type)                                                                                     \
    template <>                                                                                                   \
    __device__ __forceinline__ void multiply_add<T>(float(&sum)[4], const unsigned(&a)[4], unsigned b0,           \
                                                    unsigned b1) {                                                \
        asm("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                                               \
            ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                \
            : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])                                              \
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                      \
    }
MULTIPLY_ADD(bf16, "bf16")
MULTIPLY_ADD(f16, "f16")
#undef MULTIPLY_ADD

#endif

using u32 = unsigned int;
using u64 = unsigned long long;

// All threads of a warp take part.
constexpr u32 WARP = ~0u;
// Threads of a block, unless a kernel says otherwise.
constexpr u32 THREADS = 256;

// Expands `define(f32, float)` and so on: a kernel for every type.
#define FOR_EVERY_TYPE(define) define(f32, float) define(bf16, bf16) define(f16, f16)

__device__ __forceinline__ bool is_aligned(const void* address) { return reinterpret_cast<size_t>(address) % 16 == 0; }

// Up to eight neighbouring numbers, zeros behind them; `wide` where all eight exist and are 16-byte aligned.
template <typename T>
__device__ __forceinline__ void load(float (&values)[8], const T* from, u32 available, bool wide) {
    if (!wide) {
#pragma unroll
        for (u32 at = 0; at < 8; ++at) values[at] = at < available ? to_float(from[at]) : 0.0f;
    } else if constexpr (sizeof(T) == 4) {
        const float4 low = reinterpret_cast<const float4*>(from)[0], high = reinterpret_cast<const float4*>(from)[1];
        values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
        values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
    } else {
        const uint4 packed = *reinterpret_cast<const uint4*>(from);
        const u32 words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
        for (u32 at = 0; at < 4; ++at) {
            const float2 both = unpack<T>(words[at]);
            values[2 * at] = both.x, values[2 * at + 1] = both.y;
        }
    }
}

// The reverse of `load`.
template <typename T>
__device__ __forceinline__ void store(T* to, const float (&values)[8], u32 available, bool wide) {
    if (!wide) {
#pragma unroll
        for (u32 at = 0; at < 8; ++at)
            if (at < available) to[at] = from_float<T>(values[at]);
    } else if constexpr (sizeof(T) == 4) {
        reinterpret_cast<float4*>(to)[0] = {values[0], values[1], values[2], values[3]};
        reinterpret_cast<float4*>(to)[1] = {values[4], values[5], values[6], values[7]};
    } else {
        *reinterpret_cast<uint4*>(to) = {pack<T>(values[0], values[1]), pack<T>(values[2], values[3]),
                                         pack<T>(values[4], values[5]), pack<T>(values[6], values[7])};
    }
}

// Joins the values of all THREADS threads, always in the same order; `join` must be commutative.
template <typename T, typename Join>
__device__ __forceinline__ T across_block(T value, Join join) {
    SHARED_ARRAY(T, of_warps, THREADS / 32);
#pragma unroll
    for (u32 distance = 16; distance > 0; distance /= 2) value = join(value, __shfl_xor_sync(WARP, value, distance));
    // Whoever reads an earlier result is done.
    __syncthreads();
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
    __syncthreads();
    T all = of_warps[0];
#pragma unroll
    for (u32 warp = 1; warp < THREADS / 32; ++warp) all = join(all, of_warps[warp]);
    return all;
}

template <typename T>
__device__ __forceinline__ T sum_of_block(T value) {
    return across_block(value, [](T a, T b) { return a + b; });
}
