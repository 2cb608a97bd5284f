// What the stand-ins for CUDA's libraries ask of the software card; libcuda.so.1 has it.
#pragma once

#include <cstddef>

struct CUstream_st;

extern "C" {

// Counts one launch. A CUresult: 0, or why the card cannot be used.
int software_card_launch();

// Puts work into the queue: `run` with a copy of the bytes at `data`. A CUresult.
int software_card_enqueue(CUstream_st* stream, void (*run)(const void* data), const void* data, std::size_t bytes);

// Whether the bytes lie inside of one live allocation; complains on stderr if not.
bool software_card_live(const void* pointer, std::size_t bytes, const char* what);
}
