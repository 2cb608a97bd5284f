// Runs CUDA kernels on the CPU: what a stand-in for the driver calls. What the kernels themselves see is in
// device.hpp.
//
// Compile together: emulator.cpp, and every kernel file as C++:
//     g++ -std=c++17 -O2 -fPIC -pthread -DSOFTWARE_CARD -Wno-unknown-pragmas -c -x c++ rows.cu
#pragma once

#include <functional>

namespace software_card {

struct Dim {
    unsigned x, y, z;
};

struct Kernel;

// The kernel of this name; nullptr when unknown.
const Kernel* find_kernel(const char* name);

// What every thread of a launch runs: a kernel with its arguments.
using Call = std::function<void()>;

// Takes the arguments as they are now.
Call bind(const Kernel* kernel, void** parameters);

// Runs one grid to its end. False, with a message on stderr, when the launch failed: bad geometry, a barrier that
// not all threads reach alike, a misaligned or outlying access of the emulated instructions, or a write behind
// the `shared_bytes` of dynamic shared memory. Safe to call from several threads.
bool launch(const Kernel* kernel, Dim grid, Dim block, unsigned shared_bytes, const Call& call);

}  // namespace software_card
