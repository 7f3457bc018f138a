/* A worker in C: what a library needs to know of the interface, version 1. */
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>

struct named_descriptor { const char *name; int descriptor; };

struct library_context {
    uint32_t abi, size;
    uint64_t main_arg;
    unsigned char extra[128];
    const char *name, *worker_type;
    uint32_t restarts, slot;
    uint64_t generation;
    uint32_t incarnation;
    int32_t postmaster;
    int region, doorbell, postmaster_pidfd;
    uint32_t record_len;
    const void *record;
    const char *const *functions;
    size_t functions_len;
    const struct named_descriptor *descriptors;
    size_t descriptors_len;
    int (*unblock_signals)(void);
    int (*wait)(int64_t timeout_ms);
    int (*should_stop)(void);
    void (*ready)(void);
    void (*log)(int level, const char *text);
};

int c_worker(const struct library_context *me)
{
    char text[200];
    if (me->abi != 1 || me->size != sizeof *me)
        return 2;
    snprintf(text, sizeof text, "C worker %s/%s: %llu, %d, %zu functions", me->name,
             me->worker_type, (unsigned long long)me->main_arg, me->extra[127], me->functions_len);
    me->log(3, text);
    if (me->unblock_signals() != 0)
        return 3;
    me->ready();
    while (!me->should_stop())
        if (me->wait(-1) < 0)
            return 4;
    return 0;
}
