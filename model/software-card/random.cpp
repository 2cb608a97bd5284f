// A libcurand.so.10 for the software card: candle opens a generator with every device, and llama-eval draws from none.
#pragma GCC visibility push(default)
#include <curand.h>
#pragma GCC visibility pop

struct curandGenerator_st {
    unsigned long long seed, offset;
};

extern "C" {

curandStatus_t curandCreateGenerator(curandGenerator_t* generator, curandRngType_t) {
    *generator = new curandGenerator_st{};
    return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandDestroyGenerator(curandGenerator_t generator) {
    delete generator;
    return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandSetStream(curandGenerator_t, cudaStream_t) { return CURAND_STATUS_SUCCESS; }

curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t generator, unsigned long long seed) {
    generator->seed = seed;
    return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandSetGeneratorOffset(curandGenerator_t generator, unsigned long long offset) {
    generator->offset = offset;
    return CURAND_STATUS_SUCCESS;
}

}  // extern "C"
