/* page - what the measuring program and its child share.
 *
 * The child finds two descriptors: PAGE_TALK, one end of a SOCK_SEQPACKET pair (one letter a
 * message), and PAGE_FD, a memfd of sizeof(struct page) bytes. Times go through the memory, not
 * through the socket: a stamp then costs a store, not a system call. Times are nanoseconds of
 * CLOCK_MONOTONIC, which is one clock in all pid namespaces. */
#ifndef BENCH_PAGE_H
#define BENCH_PAGE_H

#include <stdint.h>
#include <time.h>

#define PAGE_TALK 3
#define PAGE_FD 4
#define PAGE_ZOMBIES_MAX 4000

/* Measuring program to child; the child answers every one but LEAVE with TALK_DONE. */
#define TALK_LEAVE 'x'
#define TALK_ZOMBIES 'z'
#define TALK_DONE 'd' /* also: started, and the signal has come */

struct page {
    uint64_t first_ns;  /* the child's first instruction in main */
    uint64_t last_ns;   /* its last before exit */
    uint64_t signal_ns; /* its handler was entered */
    uint64_t handed_ns; /* the zombies' parent is about to exit */
    uint64_t gone_ns;   /* the last zombie is gone */
    uint32_t zombies;   /* how many to make */
    int32_t pids[PAGE_ZOMBIES_MAX];
};

static inline uint64_t page_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail with this clock */
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
