// The software card: a libcuda.so.1 that runs llama-eval's kernels on the CPU, so that everything but speed can be
// tested without a card. It is stricter than a card: memory of its own lies between pages that nobody may touch, fresh
// memory holds NaN, and a copy must stay inside of one live allocation.
//
// It is as late as a card may be: what a stream is asked for goes into a queue (queue.hpp), one for all streams, and is
// carried out when something waits for it, or when the queue is full.
// - A wait for a stream or an event carries out what was asked for before; a query says "not ready" until then.
// - Synchronous copies, copies to pageable memory, cuMemFree and the unloading of a module carry out everything.
// - Kernel arguments and pageable memory are read at the call. Pinned memory is read and written when its turn comes;
//   until then it holds NaN if it is to be written. To free it before ends the program.
// - cuMemAllocAsync allocates at once. After cuMemFreeAsync memory counts as free, and nothing new may use it; it is
//   given back when its turn comes.
// - An error found late stays, and every later call reports it. What waits when a card is lost is never done.
//
// Environment variables make it misbehave; they are read by cuInit:
//   SOFTWARE_CARD_MEMORY=bytes         its memory (2 GiB)
//   SOFTWARE_CARD_TAKEN_AFTER=n:bytes  after n launches another process holds so many bytes
//   SOFTWARE_CARD_LOST_AFTER=n         after n launches every call fails
//   SOFTWARE_CARD_CAPABILITY=7.5       compute capability (9.0)
//   SOFTWARE_CARD_DRIVER=12020         driver version (13000)
//   SOFTWARE_CARD_COUNT=0              number of cards (1)
//   SOFTWARE_CARD_SYNCHRONOUS=1        everything is done at the call
// Launches are counted when they are asked for.
#pragma GCC visibility push(default)
#include <cuda.h>
#include "card.hpp"
#pragma GCC visibility pop

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "emulator.hpp"
#include "queue.hpp"

struct CUctx_st {};
struct CUstream_st {
    // What was last asked for.
    std::atomic<software_card::Position> position{0};
};
struct CUmemPoolHandle_st {
    cuuint64_t threshold = 0;
};
struct CUevent_st {
    std::atomic<software_card::Position> position{0};
    std::chrono::steady_clock::time_point recorded;
};
struct CUfunc_st {
    std::string name;
    const software_card::Kernel* kernel;
    int dynamic_shared = 48 << 10;
};
struct CUmod_st {
    std::string ptx;
    std::map<std::string, CUfunc_st> functions;
};

namespace {

using software_card::EVERYTHING, software_card::Position, software_card::Queue, software_card::Work;

constexpr std::size_t PAGE = 4096;
constexpr std::size_t ALIGNMENT = 256;
// Larger allocations are not filled with NaN, to keep untouched memory free of cost.
constexpr std::size_t FILLED = std::size_t{256} << 20;
// How many released allocations keep their addresses.
constexpr std::size_t RELEASED = 1024;
// Larger copies from pageable memory are not held back.
constexpr std::size_t STAGED = std::size_t{16} << 20;
constexpr int MULTIPROCESSORS = 8;
constexpr int DYNAMIC_SHARED_LIMIT = 227 << 10;

struct Allocation {
    std::size_t bytes;
    void* mapping;
    std::size_t mapped;
    // Whether cuMemFreeAsync was called, and its turn has not come.
    bool freed = false;
};

struct Settings {
    std::size_t memory, taken = 0;
    unsigned long long taken_after = ~0ULL, lost_after = ~0ULL;
    int capability_major = 9, capability_minor = 0, count;
    bool synchronous = false;
};

// Never held while the queue is asked for something: work takes it.
std::mutex mutex;
std::atomic<bool> initialised{false};
Settings settings;
std::map<CUdeviceptr, Allocation> allocations;
std::deque<Allocation> released;
std::map<void*, std::size_t> host_allocations;
std::size_t used = 0;
// Freed memory that the pool does not give back to the driver by itself; whoever allocates gets it first.
std::size_t pooled = 0;
std::atomic<unsigned long long> launches{0};
// An error that stays, as after a fault on a card.
std::atomic<CUresult> fault{CUDA_SUCCESS};
CUctx_st context;
CUmemPoolHandle_st pool;
thread_local CUcontext current = nullptr;
std::atomic<const char*> running{"none"};
// Never destroyed: other threads may use it while the process ends.
Queue& queue = *new Queue;

template <typename... Arguments>
void complain(const char* format, Arguments... arguments) {
    std::string line = std::string("software card: ") + format + "\n";
    std::fprintf(stderr, line.c_str(), arguments...);
}

unsigned long long number(const char* name, unsigned long long otherwise) {
    const char* text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

// A kernel touched memory that is not the card's.
struct sigaction previous_handler;
void on_fault(int, siginfo_t* information, void*) {
    char line[256];
    int length = std::snprintf(line, sizeof line, "software card: access to %p, outside of every allocation; last kernel: %s\n",
                               information->si_addr, running.load());
    (void)!write(STDERR_FILENO, line, static_cast<std::size_t>(length));
    // The access is repeated, and meets the handler that was there before.
    sigaction(SIGSEGV, &previous_handler, nullptr);
}

CUresult without_context() {
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    if (fault == CUDA_SUCCESS && launches >= settings.lost_after) fault = CUDA_ERROR_DEVICE_UNAVAILABLE;
    return fault;
}

CUresult enter() {
    CUresult failure = without_context();
    return failure == CUDA_SUCCESS && current == nullptr ? CUDA_ERROR_INVALID_CONTEXT : failure;
}

// Carries out what was asked for as far as `position`.
CUresult wait(Position position) {
    if (CUresult failure = queue.carry_out(position)) fault = failure;
    return fault;
}

// The streams that have no object: the default stream, and that of the thread.
bool is_default(CUstream stream) { return reinterpret_cast<std::uintptr_t>(stream) <= 2; }

CUresult enqueue(CUstream stream, Work work) {
    queue.add(std::move(work), is_default(stream) ? nullptr : &stream->position);
    return settings.synchronous || queue.full() ? wait(EVERYTHING) : fault.load();
}

// Whether everything has been done as far as `position`; if not, one more thing is.
CUresult query(Position position) {
    if (queue.done(position)) return fault;
    if (CUresult failure = queue.carry_out_one()) return fault = failure;
    return CUDA_ERROR_NOT_READY;
}

std::size_t free_memory() {
    std::size_t taken = launches >= settings.taken_after ? settings.taken : 0;
    std::size_t held = used + taken;
    return held < settings.memory ? settings.memory - held : 0;
}

// Each allocation ends, but for alignment, where its mapping's last page begins; the first and last cannot be touched.
CUresult allocate(CUdeviceptr* pointer, std::size_t bytes) {
    std::lock_guard lock(mutex);
    std::size_t size = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (size < bytes || size > free_memory()) return CUDA_ERROR_OUT_OF_MEMORY;
    std::size_t inner = (size + PAGE - 1) / PAGE * PAGE;
    void* mapping = mmap(nullptr, inner + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    char* first = static_cast<char*>(mapping) + PAGE;
    if (mprotect(first, inner, PROT_READ | PROT_WRITE) != 0) {
        munmap(mapping, inner + 2 * PAGE);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    char* start = first + (inner - size);
    if (size <= FILLED) std::memset(start, 0xFF, size);
    *pointer = reinterpret_cast<CUdeviceptr>(start);
    allocations[*pointer] = {bytes, mapping, inner + 2 * PAGE};
    used += size;
    pooled -= std::min(pooled, size);
    return CUDA_SUCCESS;
}

// The memory counts as free from now on. Its size goes to `bytes`.
CUresult retire(CUdeviceptr pointer, std::size_t* bytes) {
    std::lock_guard lock(mutex);
    auto found = allocations.find(pointer);
    if (found == allocations.end() || found->second.freed) {
        complain("%p is freed but not allocated (or freed already)", reinterpret_cast<void*>(pointer));
        return CUDA_ERROR_INVALID_VALUE;
    }
    found->second.freed = true;
    *bytes = found->second.bytes;
    std::size_t size = (*bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    used -= size;
    if (pool.threshold > 0) pooled += size;
    return CUDA_SUCCESS;
}

CUresult release(CUdeviceptr pointer) {
    std::lock_guard lock(mutex);
    auto found = allocations.find(pointer);
    Allocation allocation = found->second;
    allocations.erase(found);
    // Gives the pages back, and keeps the addresses out of use for a while: a kernel that still has them faults.
    mmap(allocation.mapping, allocation.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    released.push_back(allocation);
    if (released.size() > RELEASED) {
        munmap(released.front().mapping, released.front().mapped);
        released.pop_front();
    }
    return CUDA_SUCCESS;
}

// Whether the bytes lie inside of one live allocation.
bool live(CUdeviceptr pointer, std::size_t bytes, const char* what) {
    if (bytes == 0) return true;
    std::lock_guard lock(mutex);
    auto next = allocations.upper_bound(pointer);
    if (next != allocations.begin()) {
        auto [start, allocation] = *std::prev(next);
        if (!allocation.freed && pointer - start <= allocation.bytes && bytes <= allocation.bytes - (pointer - start)) return true;
    }
    complain("%s: %zu bytes at %p are not inside of one allocation", what, bytes, reinterpret_cast<void*>(pointer));
    return false;
}

CUdeviceptr address(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

// Whether host memory is pinned.
bool is_pinned(const void* pointer) {
    std::lock_guard lock(mutex);
    char* address = static_cast<char*>(const_cast<void*>(pointer));
    auto next = host_allocations.upper_bound(address);
    if (next == host_allocations.begin()) return false;
    auto [start, bytes] = *std::prev(next);
    return address < static_cast<char*>(start) + bytes;
}

CUresult copy_to_card(CUdeviceptr to, const void* from, std::size_t bytes, CUstream stream) {
    if (CUresult failure = enter()) return failure;
    if (!live(to, bytes, "copy to the card")) return CUDA_ERROR_INVALID_VALUE;
    void* target = reinterpret_cast<void*>(to);
    auto copy = [=] {
        std::memcpy(target, from, bytes);
        return CUDA_SUCCESS;
    };
    if (is_pinned(from)) return enqueue(stream, {copy, 0, {static_cast<const char*>(from), bytes}});
    if (bytes > STAGED) {
        CUresult failure = wait(EVERYTHING);
        return failure != CUDA_SUCCESS ? failure : copy();
    }
    std::vector<char> staged(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
    auto copy_staged = [target, staged = std::move(staged)] {
        std::memcpy(target, staged.data(), staged.size());
        return CUDA_SUCCESS;
    };
    return enqueue(stream, {std::move(copy_staged), bytes});
}

CUresult copy_from_card(void* to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    if (CUresult failure = enter()) return failure;
    if (!live(from, bytes, "copy from the card")) return CUDA_ERROR_INVALID_VALUE;
    auto copy = [=] {
        std::memcpy(to, reinterpret_cast<void*>(from), bytes);
        return CUDA_SUCCESS;
    };
    if (!is_pinned(to)) {
        CUresult failure = wait(EVERYTHING);
        return failure != CUDA_SUCCESS ? failure : copy();
    }
    // To read too early shows, unless an earlier copy has yet to read what is there.
    if (!queue.uses(to, bytes)) std::memset(to, 0xFF, bytes);
    return enqueue(stream, {copy, 0, {static_cast<const char*>(to), bytes}});
}

CUresult copy_on_card(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    if (CUresult failure = enter()) return failure;
    if (!live(to, bytes, "copy on the card") || !live(from, bytes, "copy on the card")) return CUDA_ERROR_INVALID_VALUE;
    return enqueue(stream, {[=] {
        std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
        return CUDA_SUCCESS;
    }});
}

template <typename T>
CUresult fill(CUdeviceptr to, T value, std::size_t count, CUstream stream) {
    if (CUresult failure = enter()) return failure;
    if (!live(to, count * sizeof(T), "memset")) return CUDA_ERROR_INVALID_VALUE;
    return enqueue(stream, {[=] {
        std::fill_n(reinterpret_cast<T*>(to), count, value);
        return CUDA_SUCCESS;
    }});
}

// What a call that is asynchronous gives, then a wait for it.
CUresult synchronous(CUresult begun) { return begun != CUDA_SUCCESS ? begun : wait(EVERYTHING); }

struct Error {
    CUresult code;
    const char *name, *text;
};
const Error ERRORS[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_DEVICE_UNAVAILABLE, "CUDA_ERROR_DEVICE_UNAVAILABLE", "the device is busy or unavailable"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
};

const Error* find_error(CUresult code) {
    for (const Error& error : ERRORS)
        if (error.code == code) return &error;
    return nullptr;
}

}  // namespace

#define ENTER() \
    if (CUresult failure = enter()) return failure
#define ENTER_WITHOUT_CONTEXT() \
    if (CUresult failure = without_context()) return failure

extern "C" {

// ---- For the stand-ins of the other libraries ----

int software_card_launch() {
    ENTER();
    launches++;
    return without_context();
}

int software_card_enqueue(CUstream stream, void (*run)(const void* data), const void* data, std::size_t bytes) {
    std::vector<char> copied(static_cast<const char*>(data), static_cast<const char*>(data) + bytes);
    return enqueue(stream, {[run, copied = std::move(copied)] {
        running = "a product";
        run(copied.data());
        return CUDA_SUCCESS;
    }});
}

bool software_card_live(const void* pointer, std::size_t bytes, const char* what) {
    return live(address(pointer), bytes, what);
}

// ---- The driver and its cards ----

CUresult cuInit(unsigned) {
    std::lock_guard lock(mutex);
    if (!initialised) {
        settings.memory = number("SOFTWARE_CARD_MEMORY", 2ULL << 30);
        settings.lost_after = number("SOFTWARE_CARD_LOST_AFTER", ~0ULL);
        settings.synchronous = number("SOFTWARE_CARD_SYNCHRONOUS", 0) != 0;
        settings.count = static_cast<int>(number("SOFTWARE_CARD_COUNT", 1));
        if (const char* taken = std::getenv("SOFTWARE_CARD_TAKEN_AFTER")) {
            char* rest;
            settings.taken_after = std::strtoull(taken, &rest, 10);
            settings.taken = *rest == ':' ? std::strtoull(rest + 1, nullptr, 10) : 0;
        }
        if (const char* capability = std::getenv("SOFTWARE_CARD_CAPABILITY"))
            std::sscanf(capability, "%d.%d", &settings.capability_major, &settings.capability_minor);
        struct sigaction handler = {};
        handler.sa_sigaction = on_fault;
        handler.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigaction(SIGSEGV, &handler, &previous_handler);
        initialised = true;
    }
    return settings.count > 0 ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

CUresult cuDriverGetVersion(int* version) {
    *version = static_cast<int>(number("SOFTWARE_CARD_DRIVER", 13000));
    return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult code, const char** name) {
    const Error* error = find_error(code);
    *name = error != nullptr ? error->name : nullptr;
    return error != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult code, const char** text) {
    const Error* error = find_error(code);
    *text = error != nullptr ? error->text : nullptr;
    return error != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetCount(int* count) {
    ENTER_WITHOUT_CONTEXT();
    *count = settings.count;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    ENTER_WITHOUT_CONTEXT();
    if (ordinal < 0 || ordinal >= settings.count) return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char* name, int length, CUdevice) {
    ENTER_WITHOUT_CONTEXT();
    std::snprintf(name, static_cast<std::size_t>(length), "Software card");
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) {
    ENTER_WITHOUT_CONTEXT();
    std::memset(uuid->bytes, 0, sizeof uuid->bytes);
    uuid->bytes[15] = static_cast<char>(device + 1);
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(std::size_t* bytes, CUdevice) {
    ENTER_WITHOUT_CONTEXT();
    *bytes = settings.memory;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
    ENTER_WITHOUT_CONTEXT();
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = settings.capability_major; break;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = settings.capability_minor; break;
        case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = MULTIPROCESSORS; break;
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: *value = 2048; break;
        case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *value = 48 << 10; break;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = DYNAMIC_SHARED_LIMIT; break;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: *value = 228 << 10; break;
        case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: *value = 1; break;
        case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: *value = 1; break;
        default: *value = 0;
    }
    return CUDA_SUCCESS;
}

// ---- Contexts: every card is the same, and has one ----

CUresult cuDevicePrimaryCtxRetain(CUcontext* result, CUdevice) {
    ENTER_WITHOUT_CONTEXT();
    *result = &context;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice) {
    ENTER_WITHOUT_CONTEXT();
    return wait(EVERYTHING);
}

CUresult cuCtxSetCurrent(CUcontext wanted) {
    ENTER_WITHOUT_CONTEXT();
    current = wanted;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* result) {
    ENTER_WITHOUT_CONTEXT();
    *result = current;
    return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize() {
    ENTER();
    return wait(EVERYTHING);
}

CUresult cuCtxSetFlags(unsigned) { return enter(); }

// ---- Streams and events: one queue for all, so that one stream never has to wait for another ----

CUresult cuStreamCreate(CUstream* stream, unsigned) {
    ENTER();
    *stream = new CUstream_st;
    return CUDA_SUCCESS;
}

CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }

CUresult cuStreamDestroy(CUstream stream) {
    ENTER();
    delete stream;
    return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream stream) {
    ENTER();
    return wait(is_default(stream) ? EVERYTHING : stream->position.load());
}

CUresult cuStreamQuery(CUstream stream) {
    ENTER();
    return query(is_default(stream) ? queue.end() : stream->position.load());
}

CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned) { return enter(); }
CUresult cuStreamBeginCapture(CUstream, CUstreamCaptureMode) { return CUDA_ERROR_NOT_SUPPORTED; }

CUresult cuStreamIsCapturing(CUstream, CUstreamCaptureStatus* status) {
    ENTER();
    *status = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void* data) {
    ENTER();
    return enqueue(stream, {[=] {
        function(data);
        return CUDA_SUCCESS;
    }});
}

CUresult cuEventCreate(CUevent* event, unsigned) {
    ENTER();
    *event = new CUevent_st;
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
    ENTER();
    CUresult result = enqueue(stream, {[event] {
        event->recorded = std::chrono::steady_clock::now();
        return CUDA_SUCCESS;
    }});
    event->position = queue.end();
    return result;
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    ENTER();
    if (!queue.done(start->position) || !queue.done(end->position)) return CUDA_ERROR_NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(end->recorded - start->recorded).count();
    return CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent event) {
    ENTER();
    return query(event->position);
}

CUresult cuEventSynchronize(CUevent event) {
    ENTER();
    return wait(event->position);
}

// Its record may not have had its turn.
CUresult cuEventDestroy(CUevent event) {
    ENTER();
    return enqueue(nullptr, {[event] {
        delete event;
        return CUDA_SUCCESS;
    }});
}

// ---- Memory ----

CUresult cuMemGetInfo(std::size_t* available, std::size_t* total) {
    ENTER();
    std::lock_guard lock(mutex);
    *available = free_memory() - std::min(free_memory(), pooled);
    *total = settings.memory;
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr* pointer, std::size_t bytes) {
    ENTER();
    return bytes == 0 ? CUDA_ERROR_INVALID_VALUE : allocate(pointer, bytes);
}

CUresult cuMemAllocAsync(CUdeviceptr* pointer, std::size_t bytes, CUstream) {
    ENTER();
    *pointer = 0;
    return bytes == 0 ? CUDA_SUCCESS : allocate(pointer, bytes);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr* pointer, std::size_t bytes, CUmemoryPool, CUstream stream) {
    return cuMemAllocAsync(pointer, bytes, stream);
}

CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream) {
    ENTER();
    if (pointer == 0) return CUDA_SUCCESS;
    std::size_t bytes;
    if (CUresult failure = retire(pointer, &bytes)) return failure;
    return enqueue(stream, {[pointer] { return release(pointer); }, bytes});
}

CUresult cuMemFree(CUdeviceptr pointer) { return synchronous(cuMemFreeAsync(pointer, nullptr)); }

CUresult cuMemHostAlloc(void** pointer, std::size_t bytes, unsigned) {
    ENTER();
    *pointer = std::aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
    if (*pointer == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memset(*pointer, 0xFF, bytes);
    std::lock_guard lock(mutex);
    host_allocations[*pointer] = bytes;
    return CUDA_SUCCESS;
}

CUresult cuMemAllocHost(void** pointer, std::size_t bytes) { return cuMemHostAlloc(pointer, bytes, 0); }

CUresult cuMemFreeHost(void* pointer) {
    ENTER();
    std::size_t bytes;
    {
        std::lock_guard lock(mutex);
        auto found = host_allocations.find(pointer);
        if (found == host_allocations.end()) {
            complain("host memory %p is freed but not allocated (or freed already)", pointer);
            return CUDA_ERROR_INVALID_VALUE;
        }
        bytes = found->second;
        host_allocations.erase(found);
    }
    if (queue.uses(pointer, bytes)) {
        complain("host memory %p is freed before a copy that uses it has been waited for", pointer);
        std::abort();
    }
    std::free(pointer);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, std::size_t bytes, CUstream stream) {
    return copy_to_card(to, from, bytes, stream);
}
CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    return copy_from_card(to, from, bytes, stream);
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    return copy_on_card(to, from, bytes, stream);
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, std::size_t count, CUstream stream) {
    return fill(to, value, count, stream);
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, std::size_t count, CUstream stream) {
    return fill(to, value, count, stream);
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void* from, std::size_t bytes) {
    return synchronous(copy_to_card(to, from, bytes, nullptr));
}
CUresult cuMemcpyDtoH(void* to, CUdeviceptr from, std::size_t bytes) {
    return synchronous(copy_from_card(to, from, bytes, nullptr));
}
CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, std::size_t bytes) {
    return synchronous(copy_on_card(to, from, bytes, nullptr));
}
CUresult cuMemsetD8(CUdeviceptr to, unsigned char value, std::size_t count) {
    return synchronous(fill(to, value, count, nullptr));
}
CUresult cuMemsetD32(CUdeviceptr to, unsigned value, std::size_t count) {
    return synchronous(fill(to, value, count, nullptr));
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* result, CUdevice) {
    ENTER_WITHOUT_CONTEXT();
    *result = &pool;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetMemPool(CUmemoryPool* result, CUdevice device) { return cuDeviceGetDefaultMemPool(result, device); }

CUresult cuMemPoolSetAttribute(CUmemoryPool which, CUmemPool_attribute attribute, void* value) {
    ENTER_WITHOUT_CONTEXT();
    if (which != &pool || attribute != CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) return CUDA_ERROR_NOT_SUPPORTED;
    pool.threshold = *static_cast<cuuint64_t*>(value);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool which, CUmemPool_attribute attribute, void* value) {
    ENTER_WITHOUT_CONTEXT();
    if (which != &pool || attribute != CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) return CUDA_ERROR_NOT_SUPPORTED;
    *static_cast<cuuint64_t*>(value) = pool.threshold;
    return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool, std::size_t keep) {
    ENTER_WITHOUT_CONTEXT();
    std::lock_guard lock(mutex);
    pooled = std::min(pooled, keep);
    return CUDA_SUCCESS;
}

// ---- Kernels: the PTX says which there are and for which card; the emulator has them compiled for the CPU ----

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
    ENTER();
    std::string ptx = static_cast<const char*>(image);
    int architecture = 0;
    std::size_t target = ptx.find("\n.target sm_");
    if (target == std::string::npos || std::sscanf(ptx.c_str() + target, "\n.target sm_%d", &architecture) != 1) {
        complain("a module that is no PTX");
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (architecture > 10 * settings.capability_major + settings.capability_minor) return CUDA_ERROR_NO_BINARY_FOR_GPU;
    *module = new CUmod_st{std::move(ptx), {}};
    return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule module) {
    ENTER();
    CUresult result = wait(EVERYTHING);
    delete module;
    return result;
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    ENTER();
    std::lock_guard lock(mutex);
    auto found = module->functions.find(name);
    if (found == module->functions.end()) {
        if (module->ptx.find(std::string(".entry ") + name + "(") == std::string::npos) return CUDA_ERROR_NOT_FOUND;
        const software_card::Kernel* kernel = software_card::find_kernel(name);
        if (kernel == nullptr) {
            complain("kernel %s is in the PTX, but not compiled for the CPU", name);
            return CUDA_ERROR_NOT_FOUND;
        }
        found = module->functions.emplace(name, CUfunc_st{name, kernel}).first;
    }
    *function = &found->second;
    return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    ENTER();
    if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
        if (value < 0 || value > DYNAMIC_SHARED_LIMIT) return CUDA_ERROR_INVALID_VALUE;
        function->dynamic_shared = value;
    }
    return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function) {
    ENTER();
    *value = attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES ? function->dynamic_shared
             : attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK       ? 1024
                                                                          : 0;
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction, int threads, std::size_t) {
    ENTER();
    *blocks = threads > 0 ? 2048 / threads : 0;
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared, CUstream stream, void** parameters, void** extra) {
    ENTER();
    bool grid_fits = grid_x >= 1 && grid_x < 1U << 31 && grid_y >= 1 && grid_y < 1U << 16 && grid_z >= 1 && grid_z < 1U << 16;
    unsigned long long threads = 1ULL * block_x * block_y * block_z;
    if (!grid_fits || threads < 1 || threads > 1024 || block_z > 64 || extra != nullptr ||
        shared > static_cast<unsigned>(function->dynamic_shared)) {
        complain("kernel %s cannot be launched with grid %u x %u x %u, block %u x %u x %u and %u bytes of shared memory",
                 function->name.c_str(), grid_x, grid_y, grid_z, block_x, block_y, block_z, shared);
        return CUDA_ERROR_INVALID_VALUE;
    }
    software_card::Call call = software_card::bind(function->kernel, parameters);
    CUresult result = enqueue(stream, {[=, call = std::move(call)] {
        running = function->name.c_str();
        bool done = software_card::launch(function->kernel, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, call);
        return done ? CUDA_SUCCESS : CUDA_ERROR_LAUNCH_FAILED;
    }});
    launches++;
    return result;
}

}  // extern "C"
