/* A libnvidia-ml for the tests of the NVIDIA probe. FAKE_NVML names what goes wrong:
   "" two GPUs; "laptop" few values; "mig" one GPU in two instances; "bare-mig" one without any; "no-driver"; "mismatch";
   "lost" the second GPU is lost; "first-lost"; "all-lost"; "shared" GPUs without a memory of their own; "forbidden";
   "vanish" the driver goes away after the first reading and comes back; "vanish-long" not at once; "hang". */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15,
       LIB_RM_VERSION_MISMATCH = 18 };

static int started, counted, vanished;

static int is(const char *what) {
    const char *mode = getenv("FAKE_NVML");
    return mode && !strcmp(mode, what);
}

static long number(void *device) { return (long)device; }  /* 1, 2: GPUs; 11, 12: instances of GPU 1 */

const char *nvmlErrorString(int code) { return code == GPU_IS_LOST ? "GPU is lost" : "error"; }
int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (is("no-driver")) return DRIVER_NOT_LOADED;
    if (is("forbidden")) return NO_PERMISSION;
    if (is("vanish-long") && ++started == 2) return DRIVER_NOT_LOADED;
    return is("mismatch") ? LIB_RM_VERSION_MISMATCH : OK;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { strncpy(text, "570.1", length); return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) {
    if (is("hang")) sleep(600);
    if ((is("vanish") || is("vanish-long")) && ++counted == 2 && !vanished++) return UNINITIALIZED;
    *count = is("mig") || is("bare-mig") ? 1 : 2;
    return OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if ((is("lost") && index == 1) || (is("first-lost") && index == 0) || is("all-lost")) return GPU_IS_LOST;
    *device = (void *)(long)(index + 1);
    return OK;
}
int nvmlDeviceGetName(void *device, char *text, unsigned length) {
    strncpy(text, number(device) > 10 ? "GPU 1 instance" : number(device) == 1 ? "GPU one" : "GPU two", length);
    return OK;
}
struct memory { unsigned long long total, free, used; };
int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory) {
    if (is("shared")) return NOT_SUPPORTED;
    memory->total = number(device) > 10 ? 5000 : 24000;
    memory->free = memory->total - 1000;
    memory->used = 1000;
    return OK;
}
struct utilization { unsigned gpu, memory; };
int nvmlDeviceGetUtilizationRates(void *device, struct utilization *use) {
    if (is("laptop") || number(device) > 10) return NOT_SUPPORTED;
    use->gpu = 42;
    use->memory = 10;
    return OK;
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) {
    (void)device, (void)sensor;
    *celsius = 61;
    return OK;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    (void)device;
    if (is("laptop")) return NOT_SUPPORTED;
    *milliwatts = 123400;
    return OK;
}
int nvmlDeviceGetClockInfo(void *device, int kind, unsigned *mhz) {
    (void)device, (void)kind;
    if (is("laptop")) return NOT_SUPPORTED;
    *mhz = 1500;
    return OK;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    (void)device;
    *major = 8, *minor = 9;
    return OK;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *bits) {
    (void)device;
    if (is("laptop")) return NOT_SUPPORTED;
    *bits = 0x40 | 0x4 | 0x1;  /* hardware: too hot; power cap; idle */
    return OK;
}
int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    if (!is("mig") && !is("bare-mig")) return NOT_SUPPORTED;
    (void)device;
    *current = *pending = 1;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) { (void)device; *count = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **instance) {
    (void)device;
    if (is("bare-mig") || index > 1) return NOT_FOUND;
    *instance = (void *)(long)(11 + index);
    return OK;
}
