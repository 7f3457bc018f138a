/* What a library that holds a worker's main sees of its host. */
#ifndef BGW_LIBRARY_H
#define BGW_LIBRARY_H

#include <stddef.h>
#include <stdint.h>

#define BGW_ABI 1 /* the version of this declaration */

struct bgw_descriptor {
    const char *name;
    int number;
};

struct bgw_context {
    uint32_t abi;                     /* BGW_ABI, else do not go on */
    uint32_t size;                    /* of this struct, in bytes */
    uint64_t main_arg;                /* as registered */
    uint8_t extra[128];               /* as registered */
    const char *name;                 /* of the worker */
    const char *type;                 /* of the worker */
    uint32_t restarts;                /* how many times it was started before */
    uint32_t slot;                    /* its handle: slot, generation, incarnation */
    uint64_t generation;
    uint32_t incarnation;
    int32_t postmaster;               /* the postmaster's pid */
    int region;                       /* descriptor of the shared region */
    int doorbell;                     /* descriptor of the doorbell */
    int postmaster_pidfd;             /* descriptor of the postmaster's pidfd */
    uint32_t record_len;              /* bytes of the record */
    const void *record;               /* the registration, for a Rust library */
    const char *const *functions;     /* the functions that workers may run */
    size_t functions_len;
    const struct bgw_descriptor *descriptors; /* passed by the program to its workers */
    size_t descriptors_len;
    int (*unblock_signals)(void);     /* from now on signals are delivered; 0 or -1 */
    int (*wait)(int64_t timeout_ms);  /* until the latch is set, the timeout (negative: none), or a
                                         signal; ends the process if the postmaster dies; -1: error */
    int (*should_stop)(void);         /* 1 once the worker is requested to end */
    void (*ready)(void);              /* reports that the worker is ready */
    void (*log)(int level, const char *text); /* 1 error, 2 warning, 3 info, 4 debug */
    /* From here on only if size says that they are there. */
    int (*set_result)(const void *bytes, size_t len); /* at most 128 bytes; the last one counts if
                                                         main returns 0; 0 or -1 */
    void (*fail)(const char *text);   /* says why main returns another number; the first one counts */
    int (*take)(const char *name);    /* the descriptor that the worker was given under this name,
                                         yours from now on; -ENOENT: none, -EAGAIN: taken before */
    int door;                         /* descriptor by which a Rust library asks the postmaster, or -1 */
    const char *const *calls;         /* the types of functions that are called, for a Rust library */
    size_t calls_len;
    uint32_t berth;                   /* where the worker has its cells, for a Rust library */
    uint32_t beside;                  /* 1: another run of the worker serves until this one is ready */
};

/* A worker's main. Returns 0, or another number for a failure (exit code 1). */
typedef int bgw_main(const struct bgw_context *context);

#endif
