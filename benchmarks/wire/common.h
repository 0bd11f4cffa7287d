// What upstream.c and load.c share: the clock, sockets that never block, and growing buffers.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000ull
#define STAMP_DIGITS 19 // an event carries "~T" and so many digits: CLOCK_MONOTONIC when it was written, in ns

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

static inline void prepare_process(void) {
    struct rlimit files;
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1000); // wake up when asked to, not 50 us later
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

static inline void never_block(int fd) {
    int on = 1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static inline struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

static inline void watch(int ep, int op, int fd, uint32_t events, void *owner) {
    struct epoll_event e = {.events = events, .data.ptr = owner};
    epoll_ctl(ep, op, fd, &e);
}

struct bytes {
    char *data;
    size_t len, cap;
};

static inline void reserve(struct bytes *b, size_t more) {
    if (b->cap - b->len >= more) return;
    while (b->cap - b->len < more) b->cap = b->cap ? 2 * b->cap : 8192;
    if (!(b->data = realloc(b->data, b->cap))) die("realloc");
}

static inline void append(struct bytes *b, const void *data, size_t len) {
    reserve(b, len);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

// Length of an HTTP head with its empty line, 0 while it is not whole.
static inline size_t head_length(const struct bytes *b) {
    char *end = b->len ? memmem(b->data, b->len, "\r\n\r\n", 4) : NULL;
    return end ? (size_t)(end - b->data) + 4 : 0;
}

// Value of a header field within a head; NULL where it is absent. Ends the head with a zero.
static inline const char *field_of(char *head, size_t len, const char *name) {
    head[len - 1] = 0;
    char *found = strcasestr(head, name);
    return found ? found + strlen(name) : NULL;
}
