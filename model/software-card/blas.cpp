// A libcublas.so.13 for the software card: dense products with sums in f32.
//
// Sums are in one order for every element, whatever the sizes: blocks of DEPTH terms, the terms of a block ascending.
#pragma GCC visibility push(default)
#include <cublas_v2.h>
#pragma GCC visibility pop

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "card.hpp"

struct cublasContext {
    cudaStream_t stream = nullptr;
    cublasMath_t math = CUBLAS_DEFAULT_MATH;
    cublasPointerMode_t pointers = CUBLAS_POINTER_MODE_HOST;
};

namespace {

// Eight floats, whatever the machine has for them.
typedef float Lanes __attribute__((vector_size(32)));

constexpr int LANES = 8;
constexpr int TILE_ROWS = 2 * LANES, TILE_COLUMNS = 6;  // what the innermost loop keeps in registers
constexpr int BLOCK_ROWS = 192, BLOCK_COLUMNS = 192;    // what one task computes
constexpr int DEPTH = 256;

struct bf16 {
    std::uint16_t bits;
};

float widen(float value) { return value; }
float widen(_Float16 value) { return value; }
float widen(bf16 value) {
    std::uint32_t bits = std::uint32_t{value.bits} << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

void narrow(float value, float& result) { result = value; }
void narrow(float value, _Float16& result) { result = static_cast<_Float16>(value); }
void narrow(float value, bf16& result) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bool is_nan = (bits & 0x7FFFFFFF) > 0x7F800000;
    std::uint32_t rounded = bits + 0x7FFF + (bits >> 16 & 1);  // to nearest, ties to even
    result.bits = static_cast<std::uint16_t>((is_nan ? bits | 0x400000 : rounded) >> 16);
}

// A column-major matrix, perhaps to be read transposed.
template <typename T>
struct Matrix {
    const T* values;
    std::size_t stride;
    bool transposed;

    float at(std::size_t row, std::size_t column) const {
        return widen(transposed ? values[row * stride + column] : values[column * stride + row]);
    }
};

// `count` lines from `first` on, terms `from..from+depth`, as strips of `width` lines, term by term; zeros fill up.
// `get(line, term)` reads the matrix.
template <typename Get>
void pack(float* packed, int first, int count, int width, int from, int depth, bool terms_adjacent, Get get) {
    for (int strip = 0; strip < count; strip += width, packed += std::size_t(width) * depth) {
        int lines = std::min(width, count - strip);
        if (lines < width) std::fill_n(packed, std::size_t(width) * depth, 0.0f);
        if (terms_adjacent)
            for (int line = 0; line < lines; ++line)
                for (int term = 0; term < depth; ++term) packed[term * width + line] = get(first + strip + line, from + term);
        else
            for (int term = 0; term < depth; ++term)
                for (int line = 0; line < lines; ++line) packed[term * width + line] = get(first + strip + line, from + term);
    }
}

// sums[column][row] += a x b, for one tile.
void tile(float* sums, const float* a, const float* b, int depth) {
    Lanes total[TILE_COLUMNS][2];
    std::memcpy(total, sums, sizeof total);
    for (int term = 0; term < depth; ++term, a += TILE_ROWS, b += TILE_COLUMNS) {
        Lanes first, second;
        std::memcpy(&first, a, sizeof first);
        std::memcpy(&second, a + LANES, sizeof second);
        for (int column = 0; column < TILE_COLUMNS; ++column) {
            total[column][0] += first * b[column];
            total[column][1] += second * b[column];
        }
    }
    std::memcpy(sums, total, sizeof total);
}

// c = alpha * a x b + beta * c, all column-major: a is [m, k], b is [k, n].
template <typename In, typename Out>
void multiply(int m, int n, int k, float alpha, Matrix<In> a, Matrix<In> b, float beta, Out* c, std::size_t c_stride) {
    int down = (m + BLOCK_ROWS - 1) / BLOCK_ROWS, across = (n + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS;
    std::atomic<int> next{0};
    auto work = [&] {
        constexpr int TILE = TILE_ROWS * TILE_COLUMNS;
        std::vector<float> a_packed(BLOCK_ROWS * DEPTH), b_packed(BLOCK_COLUMNS * DEPTH), sums(BLOCK_ROWS * BLOCK_COLUMNS);
        for (int block; (block = next++) < down * across;) {
            int row = block % down * BLOCK_ROWS, column = block / down * BLOCK_COLUMNS;
            int rows = std::min(BLOCK_ROWS, m - row), columns = std::min(BLOCK_COLUMNS, n - column);
            std::fill(sums.begin(), sums.end(), 0.0f);
            for (int from = 0; from < k; from += DEPTH) {
                int depth = std::min(DEPTH, k - from);
                pack(a_packed.data(), row, rows, TILE_ROWS, from, depth, a.transposed,
                     [&](std::size_t line, std::size_t term) { return a.at(line, term); });
                pack(b_packed.data(), column, columns, TILE_COLUMNS, from, depth, !b.transposed,
                     [&](std::size_t line, std::size_t term) { return b.at(term, line); });
                float* tile_sums = sums.data();
                for (int j = 0; j < columns; j += TILE_COLUMNS)
                    for (int i = 0; i < rows; i += TILE_ROWS, tile_sums += TILE)
                        tile(tile_sums, &a_packed[std::size_t(i) * depth], &b_packed[std::size_t(j) * depth], depth);
            }
            const float* tile_sums = sums.data();
            for (int j = 0; j < columns; j += TILE_COLUMNS)
                for (int i = 0; i < rows; i += TILE_ROWS, tile_sums += TILE)
                    for (int y = 0; y < std::min(TILE_COLUMNS, columns - j); ++y)
                        for (int x = 0; x < std::min(TILE_ROWS, rows - i); ++x) {
                            Out& out = c[(column + j + y) * c_stride + row + i + x];
                            // beta = 0 does not read: the memory may hold anything.
                            float old = beta == 0.0f ? 0.0f : beta * widen(out);
                            narrow(alpha * tile_sums[y * TILE_ROWS + x] + old, out);
                        }
        }
    };
    int threads = std::min<int>(std::max(1U, std::thread::hardware_concurrency()), down * across);
    std::vector<std::thread> helpers;
    for (int i = 1; i < threads; ++i) helpers.emplace_back(work);
    work();
    for (std::thread& helper : helpers) helper.join();
}

std::size_t size_of(cudaDataType type) {
    return type == CUDA_R_32F ? 4 : type == CUDA_R_16BF || type == CUDA_R_16F ? 2 : 0;
}

// Bytes from a column-major matrix's first element to its last.
std::size_t extent(int rows, int columns, int stride, cudaDataType type) {
    return rows == 0 || columns == 0 ? 0 : ((columns - 1) * std::size_t(stride) + rows) * size_of(type);
}

struct Product {
    bool a_transposed, b_transposed;
    int m, n, k;
    float alpha;
    const void* a;
    int a_stride;
    const void* b;
    int b_stride;
    float beta;
    void* c;
    int c_stride;

    template <typename In, typename Out>
    static void run(const void* data) {
        Product it;
        std::memcpy(&it, data, sizeof it);
        multiply(it.m, it.n, it.k, it.alpha, Matrix<In>{static_cast<const In*>(it.a), std::size_t(it.a_stride), it.a_transposed},
                 Matrix<In>{static_cast<const In*>(it.b), std::size_t(it.b_stride), it.b_transposed}, it.beta,
                 static_cast<Out*>(it.c), it.c_stride);
    }
};

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
    *handle = new cublasContext;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
    delete handle;
    // On a lost card the real one says so too.
    return software_card_launch() == 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INTERNAL_ERROR;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t* stream) {
    *stream = handle->stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void* workspace, std::size_t bytes) {
    return software_card_live(workspace, bytes, "workspace") ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
    handle->math = mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode) {
    *mode = handle->math;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
    handle->pointers = mode;
    return mode == CUBLAS_POINTER_MODE_HOST ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t* mode) {
    *mode = handle->pointers;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int* version) {
    *version = CUBLAS_VERSION;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t a_operation, cublasOperation_t b_operation, int m, int n,
                            int k, const void* alpha, const void* a, cudaDataType a_type, int a_stride, const void* b,
                            cudaDataType b_type, int b_stride, const void* beta, void* c, cudaDataType c_type, int c_stride,
                            cublasComputeType_t compute, cublasGemmAlgo_t) {
    if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (software_card_launch() != 0) return CUBLAS_STATUS_EXECUTION_FAILED;
    bool a_transposed = a_operation != CUBLAS_OP_N, b_transposed = b_operation != CUBLAS_OP_N;
    if (m < 0 || n < 0 || k < 0 || a_stride < std::max(1, a_transposed ? k : m) ||
        b_stride < std::max(1, b_transposed ? n : k) || c_stride < std::max(1, m))
        return CUBLAS_STATUS_INVALID_VALUE;
    bool sums_in_f32 = compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_PEDANTIC ||
                       compute == CUBLAS_COMPUTE_32F_FAST_TF32 || compute == CUBLAS_COMPUTE_32F_FAST_16BF ||
                       compute == CUBLAS_COMPUTE_32F_FAST_16F;
    if (!sums_in_f32 || a_type != b_type || size_of(a_type) == 0 || (c_type != CUDA_R_32F && c_type != a_type))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!software_card_live(a, a_transposed ? extent(k, m, a_stride, a_type) : extent(m, k, a_stride, a_type), "product's A") ||
        !software_card_live(b, b_transposed ? extent(n, k, b_stride, b_type) : extent(k, n, b_stride, b_type), "product's B") ||
        !software_card_live(c, extent(m, n, c_stride, c_type), "product's C"))
        return CUBLAS_STATUS_EXECUTION_FAILED;
    // The factors are read now: the pointers to them are the host's.
    Product product{a_transposed, b_transposed, m, n, k, *static_cast<const float*>(alpha), a, a_stride, b, b_stride,
                    *static_cast<const float*>(beta), c, c_stride};
    bool wide = c_type == CUDA_R_32F;
    auto run = a_type == CUDA_R_32F    ? Product::run<float, float>
               : a_type == CUDA_R_16BF ? (wide ? Product::run<bf16, float> : Product::run<bf16, bf16>)
                                       : (wide ? Product::run<_Float16, float> : Product::run<_Float16, _Float16>);
    bool queued = software_card_enqueue(handle->stream, run, &product, sizeof product) == 0;
    return queued ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t a_operation, cublasOperation_t b_operation,
                                          int m, int n, int k, const void* alpha, const void* a, cudaDataType a_type,
                                          int a_stride, long long a_step, const void* b, cudaDataType b_type, int b_stride,
                                          long long b_step, const void* beta, void* c, cudaDataType c_type, int c_stride,
                                          long long c_step, int batches, cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
    for (int i = 0; i < batches; ++i) {
        const char* a_batch = static_cast<const char*>(a) + i * a_step * static_cast<long long>(size_of(a_type));
        const char* b_batch = static_cast<const char*>(b) + i * b_step * static_cast<long long>(size_of(b_type));
        char* c_batch = static_cast<char*>(c) + i * c_step * static_cast<long long>(size_of(c_type));
        cublasStatus_t status = cublasGemmEx(handle, a_operation, b_operation, m, n, k, alpha, a_batch, a_type, a_stride, b_batch,
                                             b_type, b_stride, beta, c_batch, c_type, c_stride, compute, algorithm);
        if (status != CUBLAS_STATUS_SUCCESS) return status;
    }
    return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
