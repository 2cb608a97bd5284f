// Fibers, barriers and the grid: see device.hpp.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "device.hpp"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace software_card {

thread_local Coordinates coordinates;

namespace {

// ---- Switching between fibers ----

#if defined(__x86_64__)

// Saves what a call must preserve on the stack, leaves the stack pointer in *save and goes on at `resume`.
extern "C" void software_card_switch(void** save, void* resume);
asm(R"(
.pushsection .text
.type software_card_switch, @function
software_card_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size software_card_switch, . - software_card_switch
.popsection
)");

struct Context {
    void* stack_pointer = nullptr;

    void prepare(unsigned char* stack, std::size_t bytes, void (*entry)()) {
        // Six registers, where to return to, and a word that aligns the stack as a call would.
        void** top = reinterpret_cast<void**>(stack + bytes) - 8;
        std::fill(top, top + 8, nullptr);
        top[6] = reinterpret_cast<void*>(entry);
        stack_pointer = top;
    }
    void switch_to(Context& other) { software_card_switch(&stack_pointer, other.stack_pointer); }
};

#else

struct Context {
    ucontext_t context;

    void prepare(unsigned char* stack, std::size_t bytes, void (*entry)()) {
        getcontext(&context);
        context.uc_stack.ss_sp = stack;
        context.uc_stack.ss_size = bytes;
        context.uc_link = nullptr;
        makecontext(&context, entry, 0);
    }
    void switch_to(Context& other) { swapcontext(&context, &other.context); }
};

#endif

constexpr std::size_t STACK = 128 << 10;
constexpr unsigned char POISON = 0xff;
constexpr unsigned char GUARD = 0xa5;
constexpr std::size_t GUARD_BYTES = 4096;
constexpr unsigned MOST_SHARED = 227 << 10;

// Stacks with a page without access below each; kept by the thread for its next block.
class Stacks {
  public:
    unsigned char* get(unsigned at) {
        while (stacks.size() <= at) {
            void* const memory = mmap(nullptr, GUARD_PAGE + STACK, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (memory == MAP_FAILED) throw std::bad_alloc();
            mprotect(memory, GUARD_PAGE, PROT_NONE);
            stacks.push_back(static_cast<unsigned char*>(memory));
        }
        return stacks[at] + GUARD_PAGE;
    }
    ~Stacks() {
        for (unsigned char* memory : stacks) munmap(memory, GUARD_PAGE + STACK);
    }

  private:
    static constexpr std::size_t GUARD_PAGE = 64 << 10;
    std::vector<unsigned char*> stacks;
};

// ---- A block ----

enum class State { ready, at_block_barrier, in_warp_collective, done };

struct Copy {
    void* target;
    const void* source;
    unsigned bytes, filled;
    unsigned group;
};

struct Fiber {
    Context context;
    State state;
    Place place;
    void* brought;
    Dim thread;
    unsigned committed;
    std::vector<Copy> copies;
};

void perform(const Copy& copy) {
    std::memcpy(copy.target, copy.source, copy.filled);
    std::memset(static_cast<unsigned char*>(copy.target) + copy.filled, 0, copy.bytes - copy.filled);
}

bool same(Place a, Place b) { return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0); }

std::string described(Place place) {
    const char* const slash = std::strrchr(place.file, '/');
    return std::string(slash ? slash + 1 : place.file) + ":" + std::to_string(place.line);
}

struct Grid {
    const Kernel* kernel;
    Dim grid, block;
    unsigned shared_bytes;
    const Call& call;
    unsigned long number;

    std::atomic<unsigned long> next_block{0};
    std::atomic<bool> failed{false};

    void report(const std::string& what) {
        if (!failed.exchange(true)) std::fprintf(stderr, "software card: %s: %s\n", kernel->name, what.c_str());
    }
};

class Block {
  public:
    void run(Grid& of, Dim index) {
        grid = &of;
        const unsigned threads = of.block.x * of.block.y * of.block.z;
        if (fibers.size() < threads) fibers.resize(threads);
        count = threads;
        met.clear();
        failure.clear();
        // The card promises neither: both cases of each must give the same.
        const unsigned long number = of.number + index.x + index.y + index.z;
        copies_at_once = number % 2;
        const bool backwards = number / 2 % 2;

        shared.assign(of.shared_bytes + GUARD_BYTES + 16, POISON);
        shared_start = shared.data() + (-reinterpret_cast<std::uintptr_t>(shared.data()) & 15);
        std::memset(shared_start + of.shared_bytes, GUARD, GUARD_BYTES);

        coordinates = {{0, 0, 0}, index, of.block, of.grid};
        for (unsigned at = 0; at < threads; ++at) {
            Fiber& fiber = fibers[at];
            fiber.state = State::ready;
            fiber.thread = {at % of.block.x, at / of.block.x % of.block.y, at / of.block.x / of.block.y};
            fiber.committed = 0;
            fiber.copies.clear();
            fiber.context.prepare(stacks.get(at), STACK, entry);
        }
        unsigned done = 0;
        while (done < threads) {
            bool moved = false;
            for (unsigned turn = 0; turn < threads; ++turn) {
                Fiber& fiber = fibers[backwards ? threads - 1 - turn : turn];
                if (fiber.state != State::ready) continue;
                running = &fiber;
                coordinates.thread = fiber.thread;
                scheduler.switch_to(fiber.context);
                if (!failure.empty()) return of.report(failure);
                done += fiber.state == State::done;
                moved = true;
            }
            if (!moved && !open_barrier()) return of.report(divergence());
        }
        for (std::size_t at = 0; at < GUARD_BYTES; ++at)
            if (shared_start[of.shared_bytes + at] != GUARD)
                return of.report("writes behind its " + std::to_string(of.shared_bytes) +
                                 " bytes of dynamic shared memory");
    }

    void pause(State state, Place place) {
        running->state = state;
        running->place = place;
        Fiber& self = *running;
        self.context.switch_to(scheduler);
    }

    void collective(Place place, void* mine, void (*all)(void* const*, unsigned)) {
        Fiber& self = *running;
        const unsigned first = unsigned(&self - fibers.data()) / 32 * 32;
        const unsigned lanes = std::min(32u, count - first);
        self.brought = mine;
        void* brought[32];
        for (unsigned lane = 0; lane < lanes; ++lane) {
            Fiber& other = fibers[first + lane];
            if (&other != &self && (other.state != State::in_warp_collective || !same(other.place, place)))
                return pause(State::in_warp_collective, place);
            brought[lane] = other.brought;
        }
        all(brought, lanes);
        for (unsigned lane = 0; lane < lanes; ++lane) fibers[first + lane].state = State::ready;
    }

    [[noreturn]] void stop(Place place, const char* what) {
        failure = std::string(what) + ", " + described(place) + whereabouts(*running);
        Fiber& self = *running;
        for (;;) self.context.switch_to(scheduler);
    }

    Grid* grid = nullptr;
    Fiber* running = nullptr;
    bool copies_at_once = false;
    unsigned char* shared_start = nullptr;
    std::vector<void*> met;

  private:
    static void entry();

    // Lets all threads go on when every one waits at the same barrier.
    bool open_barrier() {
        for (unsigned at = 0; at < count; ++at)
            if (fibers[at].state != State::at_block_barrier || !same(fibers[at].place, fibers[0].place)) return false;
        for (unsigned at = 0; at < count; ++at) fibers[at].state = State::ready;
        return true;
    }

    std::string whereabouts(const Fiber& fiber) const {
        return " (block " + std::to_string(coordinates.block.x) + "," + std::to_string(coordinates.block.y) +
               " thread " + std::to_string(&fiber - fibers.data()) + ")";
    }

    std::string divergence() const {
        const auto waits = [&](const Fiber& fiber) {
            const char* const where = fiber.state == State::done               ? "has ended"
                                      : fiber.state == State::at_block_barrier ? "waits for the block at "
                                                                               : "waits for its warp at ";
            return where + (fiber.state == State::done ? "" : described(fiber.place)) + whereabouts(fiber);
        };
        for (unsigned at = 1; at < count; ++at)
            if (fibers[at].state != fibers[0].state || !same(fibers[at].place, fibers[0].place))
                return "threads diverge: one " + waits(fibers[0]) + ", one " + waits(fibers[at]);
        return "threads diverge: all " + waits(fibers[0]);
    }

    std::vector<Fiber> fibers;
    unsigned count = 0;
    Stacks stacks;
    Context scheduler;
    std::vector<unsigned char> shared;
    std::string failure;
};

thread_local Block block;

void Block::entry() {
    block.grid->call();
    block.pause(State::done, {"", 0});
    std::abort();
}

void run_blocks(Grid& grid) {
    const unsigned long blocks = 1ul * grid.grid.x * grid.grid.y * grid.grid.z;
    for (;;) {
        const unsigned long at = grid.next_block++;
        if (at >= blocks || grid.failed) return;
        block.run(grid, {unsigned(at % grid.grid.x), unsigned(at / grid.grid.x % grid.grid.y),
                         unsigned(at / grid.grid.x / grid.grid.y)});
    }
}

// ---- The threads that run blocks, beside the one that launches ----

class Helpers {
  public:
    Helpers() {
        for (unsigned at = 1; at < std::thread::hardware_concurrency(); ++at)
            std::thread([this] { serve(); }).detach();
    }

    // Runs the grid; returns when no thread works at it.
    void run(Grid& grid) {
        {
            const std::lock_guard<std::mutex> lock(mutex);
            current = &grid;
        }
        woken.notify_all();
        run_blocks(grid);
        std::unique_lock<std::mutex> lock(mutex);
        current = nullptr;
        idle.wait(lock, [this] { return working == 0; });
    }

  private:
    void serve() {
        const Grid* last = nullptr;
        unsigned long last_number = 0;
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            woken.wait(lock, [&] { return current && (current != last || current->number != last_number); });
            Grid& grid = *current;
            last = &grid, last_number = grid.number;
            ++working;
            lock.unlock();
            run_blocks(grid);
            lock.lock();
            if (--working == 0) idle.notify_all();
        }
    }

    std::mutex mutex;
    std::condition_variable woken, idle;
    Grid* current = nullptr;
    unsigned working = 0;
};

// Built before the first kernel registers itself, whatever the order of the files.
const Kernel*& first_kernel() {
    static const Kernel* first = nullptr;
    return first;
}

}  // namespace

Kernel::Kernel(const char* name, unsigned most_threads, Call (*bind)(void**))
    : name(name), most_threads(most_threads), bind(bind), next(first_kernel()) {
    first_kernel() = this;
}

const Kernel* find_kernel(const char* name) {
    for (const Kernel* it = first_kernel(); it; it = it->next)
        if (std::strcmp(it->name, name) == 0) return it;
    return nullptr;
}

Call bind(const Kernel* kernel, void** parameters) { return kernel->bind(parameters); }

bool launch(const Kernel* kernel, Dim grid, Dim block, unsigned shared_bytes, const Call& call) {
    static std::mutex one_at_a_time;
    static unsigned long launches = 0;
    // Never destroyed: its threads may wait while the process ends.
    static Helpers* const helpers = new Helpers;

    const std::lock_guard<std::mutex> lock(one_at_a_time);
    Grid work{kernel, grid, block, shared_bytes, call, ++launches};
    const unsigned long threads = 1ul * block.x * block.y * block.z;
    const bool fits = grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.y < 65536 && grid.z < 65536 && threads > 0 &&
                      threads <= kernel->most_threads && block.z <= 64 && shared_bytes <= MOST_SHARED;
    if (!fits) {
        work.report("bad geometry: grid " + std::to_string(grid.x) + "," + std::to_string(grid.y) + "," +
                    std::to_string(grid.z) + ", " + std::to_string(threads) + " threads of at most " +
                    std::to_string(kernel->most_threads) + ", " + std::to_string(shared_bytes) + " shared bytes");
        return false;
    }
    if (1ul * grid.x * grid.y * grid.z == 1)
        run_blocks(work);
    else
        helpers->run(work);
    return !work.failed;
}

// ---- What kernels call ----

void block_barrier(Place place) { block.pause(State::at_block_barrier, place); }

void warp_collective(Place place, void* mine, void (*all)(void* const*, unsigned)) {
    block.collective(place, mine, all);
}

void* dynamic_shared() { return block.shared_start; }

void* static_shared(void* storage, std::size_t bytes) {
    if (std::find(block.met.begin(), block.met.end(), storage) == block.met.end()) {
        block.met.push_back(storage);
        std::memset(storage, POISON, bytes);
    }
    return storage;
}

void fail(Place place, const char* what) { block.stop(place, what); }

bool in_dynamic_shared(const void* address, std::size_t bytes) {
    const auto start = reinterpret_cast<std::uintptr_t>(block.shared_start);
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    return at >= start && at + bytes <= start + block.grid->shared_bytes;
}

void copy_later(Place place, void* target, const void* source, unsigned bytes, unsigned filled) {
    const auto misaligned = [&](const void* address) { return reinterpret_cast<std::uintptr_t>(address) % bytes != 0; };
    if (misaligned(target) || misaligned(source)) fail(place, "cp.async of a misaligned address");
    if (!in_dynamic_shared(target, bytes)) fail(place, "cp.async to outside shared memory");
    const Copy copy{target, source, bytes, filled, block.running->committed};
    if (block.copies_at_once)
        perform(copy);
    else
        block.running->copies.push_back(copy);
}

void commit_copies() { ++block.running->committed; }

void wait_for_copies(unsigned pending_groups) {
    Fiber& fiber = *block.running;
    const auto still_pending =
        std::find_if(fiber.copies.begin(), fiber.copies.end(),
                     [&](const Copy& copy) { return copy.group + pending_groups >= fiber.committed; });
    std::for_each(fiber.copies.begin(), still_pending, perform);
    fiber.copies.erase(fiber.copies.begin(), still_pending);
}

}  // namespace software_card
