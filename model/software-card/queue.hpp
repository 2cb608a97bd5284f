// The software card's work, in the order in which it was asked for; carried out when something waits for it.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>

namespace software_card {

// How much had been asked for: work of this number and before.
using Position = std::uint64_t;
constexpr Position EVERYTHING = ~Position{0};

// Host memory that work reads or writes when its turn comes.
struct HostMemory {
    const char* start = nullptr;
    std::size_t bytes = 0;
};

struct Work {
    std::function<CUresult()> run;
    // Memory that is held until then.
    std::size_t held = 0;
    HostMemory host = {};
};

// Safe to call from several threads, but not from work.
class Queue {
  public:
    // `position`, if there is one, is set to the work's.
    void add(Work work, std::atomic<Position>* position) {
        std::lock_guard lock(mutex);
        if (failure != CUDA_SUCCESS) return;
        held += work.held;
        waiting.push_back(std::move(work));
        if (position != nullptr) *position = carried_out + waiting.size();
    }

    // Everything that was asked for so far.
    Position end() const {
        std::lock_guard lock(mutex);
        return carried_out + waiting.size();
    }

    bool done(Position position) const {
        std::lock_guard lock(mutex);
        return position <= carried_out;
    }

    // Whether it holds so much that it must not grow.
    bool full() const {
        std::lock_guard lock(mutex);
        return waiting.size() > MOST_WAITING || held > MOST_HELD;
    }

    // Carries out everything as far as `position`. After a failure, which stays, nothing more is carried out.
    CUresult carry_out(Position position) {
        std::lock_guard lock(mutex);
        return advance(position);
    }

    // A step, so that who asks often enough comes to an end.
    CUresult carry_out_one() {
        std::lock_guard lock(mutex);
        return advance(carried_out + 1);
    }

    // Whether work that waits uses any of the bytes.
    bool uses(const void* memory, std::size_t bytes) const {
        std::lock_guard lock(mutex);
        const char* start = static_cast<const char*>(memory);
        for (const Work& work : waiting)
            if (work.host.start < start + bytes && start < work.host.start + work.host.bytes) return true;
        return false;
    }

  private:
    static constexpr std::size_t MOST_WAITING = 10000, MOST_HELD = std::size_t{256} << 20;

    CUresult advance(Position position) {
        while (carried_out < position && !waiting.empty()) {
            Work work = std::move(waiting.front());
            waiting.pop_front();
            held -= work.held;
            ++carried_out;
            failure = work.run();
            if (failure == CUDA_SUCCESS) continue;
            waiting.clear();
            held = 0;
        }
        return failure;
    }

    mutable std::mutex mutex;
    std::deque<Work> waiting;
    std::size_t held = 0;
    Position carried_out = 0;
    CUresult failure = CUDA_SUCCESS;
};

}  // namespace software_card
