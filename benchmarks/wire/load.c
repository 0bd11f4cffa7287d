// A load generator that costs next to nothing: one thread, one prepared request. Loopback only.
//
//   load PORT PATH BODY_FILE CONNECTIONS SECONDS RATE
//
// RATE 0: every connection sends its next request as soon as it has its answer. RATE > 0: so many requests/s,
// each timed from the moment when it was due, so that a server that falls behind is seen to. RATE -1: one
// request for each connection, and SECONDS at most. Prints one JSON object.
#include "common.h"

enum framing { LENGTH, CHUNKED, TO_END };
enum chunk_part { SIZE, SIZE_REST, DATA, DATA_END, LAST_LINE, LINE };

struct conn {
    int fd;
    bool busy, blocked, head_seen, body_seen;
    uint64_t began;
    size_t sent;
    struct bytes head;
    int status;
    enum framing framing;
    enum chunk_part part;
    uint64_t left; // of the body, or of the present chunk
    int digits;    // of a time stamp that is being read: -2 none, -1 "~" seen
    uint64_t stamp;
};

struct samples {
    uint32_t *values; // in 100 ns
    size_t len, cap;
};

static int ep, port;
static char *request;
static size_t request_len;
static uint64_t n_done, n_errors, n_bytes;
static struct samples times, first_bytes, delays;

static void sample(struct samples *s, uint64_t ns) {
    if (s->len == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 65536;
        if (!(s->values = realloc(s->values, s->cap * sizeof *s->values))) die("realloc");
    }
    s->values[s->len++] = ns / 100 > UINT32_MAX ? UINT32_MAX : ns / 100;
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile_us(const struct samples *s, double q) {
    return s->len ? s->values[(size_t)(q * (s->len - 1))] / 10.0 : 0;
}

static bool dial(struct conn *c) {
    struct sockaddr_in address = loopback(port);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) {
        close(c->fd);
        c->fd = -1;
        return false;
    }
    never_block(c->fd);
    watch(ep, EPOLL_CTL_ADD, c->fd, EPOLLIN, c);
    return true;
}

static void push(struct conn *c) {
    ssize_t n = send(c->fd, request + c->sent, request_len - c->sent, 0);
    if (n > 0) c->sent += n;
    bool blocked = c->sent < request_len;
    if (blocked != c->blocked) watch(ep, EPOLL_CTL_MOD, c->fd, EPOLLIN | (blocked ? EPOLLOUT : 0), c);
    c->blocked = blocked;
}

static void begin(struct conn *c, uint64_t due) {
    c->busy = true;
    c->head_seen = c->body_seen = false;
    c->head.len = c->sent = 0;
    c->began = due;
    c->digits = -2;
    push(c);
}

// The events' time stamps, wherever the bytes were cut.
static void read_stamps(struct conn *c, const char *p, size_t len) {
    const char *end = p + len;
    while (p < end) {
        if (c->digits == -2) {
            if (!(p = memchr(p, '~', end - p))) return;
            c->digits = -1;
        } else if (c->digits == -1) {
            c->digits = *p == 'T' ? 0 : -2;
            c->stamp = 0;
        } else {
            c->stamp = 10 * c->stamp + (*p - '0');
            if (++c->digits == STAMP_DIGITS) {
                uint64_t now = now_ns();
                sample(&delays, now > c->stamp ? now - c->stamp : 0);
                c->digits = -2;
            }
        }
        p++;
    }
}

// True at the end of a chunked body.
static bool read_chunks(struct conn *c, const char *p, size_t len) {
    for (const char *end = p + len; p < end;) {
        switch (c->part) {
        case SIZE: {
            int digit = *p >= '0' && *p <= '9' ? *p - '0' : (*p | 32) >= 'a' && (*p | 32) <= 'f' ? (*p | 32) - 'a' + 10 : -1;
            if (digit < 0) {
                c->part = SIZE_REST;
                break;
            }
            c->left = 16 * c->left + digit;
            p++;
            break;
        }
        case SIZE_REST:
            if (*p++ == '\n') c->part = c->left ? DATA : LAST_LINE;
            break;
        case DATA: {
            size_t n = c->left < (size_t)(end - p) ? c->left : (size_t)(end - p);
            read_stamps(c, p, n);
            p += n;
            if (!(c->left -= n)) c->part = DATA_END;
            break;
        }
        case DATA_END:
            if (*p++ == '\n') c->part = SIZE;
            break;
        case LAST_LINE: // empty: the end; else a trailer
            if (*p == '\n') return true;
            if (*p++ != '\r') c->part = LINE;
            break;
        case LINE:
            if (*p++ == '\n') c->part = LAST_LINE;
            break;
        }
    }
    return false;
}

// True at the end of the answer.
static bool read_answer(struct conn *c, const char *p, size_t len) {
    if (!c->head_seen) {
        size_t before = c->head.len;
        append(&c->head, p, len);
        size_t head = head_length(&c->head);
        if (!head) return false;
        c->status = atoi(c->head.data + 9);
        const char *length = field_of(c->head.data, head, "\ncontent-length:");
        c->left = length ? strtoull(length, NULL, 10) : 0;
        const char *coding = field_of(c->head.data, head, "\ntransfer-encoding: chunked");
        c->framing = coding ? CHUNKED : length ? LENGTH : TO_END;
        c->part = SIZE;
        c->head_seen = true;
        p += head - before;
        len -= head - before;
        if (c->framing == LENGTH && !c->left) return true;
    }
    if (len && !c->body_seen) {
        c->body_seen = true;
        sample(&first_bytes, now_ns() - c->began);
    }
    if (c->framing == CHUNKED) return read_chunks(c, p, len);
    read_stamps(c, p, len);
    c->left -= c->framing == LENGTH ? len : 0;
    return c->framing == LENGTH && c->left == 0;
}

static void end_exchange(struct conn *c, bool whole) {
    c->busy = false;
    if (whole && c->status == 200) {
        n_done++;
        sample(&times, now_ns() - c->began);
    } else if (n_errors++ < 2) {
        fprintf(stderr, "error: status %d, %.*s\n", c->status, (int)(c->head.len < 300 ? c->head.len : 300), c->head.data);
    }
}

static void load_request(char **argv) {
    FILE *file = fopen(argv[3], "rb");
    if (!file) die(argv[3]);
    fseek(file, 0, SEEK_END);
    long body_len = ftell(file);
    rewind(file);
    request = malloc(body_len + 1024);
    request_len = snprintf(request, 1024,
        "POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer %s\r\nuser-agent: OpenAI/Python 3.3.0\r\n"
        "accept: application/json\r\ncontent-type: application/json\r\nx-stainless-lang: python\r\n"
        "x-stainless-async: false\r\ncontent-length: %ld\r\n\r\n",
        argv[2], port, getenv("LOAD_KEY") ? getenv("LOAD_KEY") : "sk-bench", body_len);
    if (fread(request + request_len, 1, body_len, file) != (size_t)body_len) die(argv[3]);
    request_len += body_len;
    fclose(file);
}

static void report(double seconds, int unfinished) {
    qsort(times.values, times.len, sizeof(uint32_t), by_size);
    qsort(first_bytes.values, first_bytes.len, sizeof(uint32_t), by_size);
    qsort(delays.values, delays.len, sizeof(uint32_t), by_size);
    printf("{\"done\":%llu,\"errors\":%llu,\"unfinished\":%d,\"seconds\":%.4f,\"per_s\":%.1f,\"p50_us\":%.1f,"
           "\"p99_us\":%.1f,\"first_byte_p50_us\":%.1f,\"events\":%zu,\"events_per_s\":%.1f,\"event_p50_us\":%.1f,"
           "\"event_p99_us\":%.1f,\"bytes\":%llu}\n",
        (unsigned long long)n_done, (unsigned long long)n_errors, unfinished, seconds, n_done / seconds,
        percentile_us(&times, .5), percentile_us(&times, .99), percentile_us(&first_bytes, .5), delays.len,
        delays.len / seconds, percentile_us(&delays, .5), percentile_us(&delays, .99), (unsigned long long)n_bytes);
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: load PORT PATH BODY_FILE CONNECTIONS SECONDS RATE\n");
        return 2;
    }
    prepare_process();
    port = atoi(argv[1]);
    int n_conns = atoi(argv[4]), n_idle = 0, n_busy = 0;
    double seconds = atof(argv[5]), rate = atof(argv[6]);
    load_request(argv);
    ep = epoll_create1(0);
    struct conn *conns = calloc(n_conns, sizeof *conns), **idle = malloc(n_conns * sizeof *idle);
    char *buffer = malloc(1 << 18);
    for (int i = 0; i < n_conns; i++)
        if (!dial(&conns[i])) die("connect");
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * NS), due = start;
    uint64_t step = rate > 0 ? NS / rate : 0, grace = rate < 0 ? 0 : 5 * NS;
    for (int i = 0; i < n_conns; i++) {
        if (step) {
            idle[n_idle++] = &conns[i];
        } else {
            begin(&conns[i], now_ns());
            n_busy++;
        }
    }
    for (;;) {
        uint64_t now = now_ns();
        if (now > end + grace || (!n_busy && (!step || now > end))) break;
        for (; step && now < end && due <= now && n_idle; due += step, n_busy++) begin(idle[--n_idle], due);
        struct timespec wait = {.tv_nsec = 20000000};
        if (step && now < end && n_idle) wait.tv_nsec = due > now ? (due - now < 20000000 ? due - now : 20000000) : 0;
        struct epoll_event events[512];
        int n = epoll_pwait2(ep, events, 512, &wait, NULL);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (c->blocked && events[i].events & EPOLLOUT) push(c);
            if (!(events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
            ssize_t got = recv(c->fd, buffer, 1 << 18, 0);
            if (got < 0 && errno == EAGAIN) continue;
            bool gone = got <= 0, over = false;
            if (got > 0) {
                n_bytes += got;
                over = c->busy && read_answer(c, buffer, got);
            }
            bool was_busy = c->busy;
            if (c->busy && (over || gone)) {
                end_exchange(c, over || (c->head_seen && c->framing == TO_END));
                n_busy--;
            }
            if (gone) {
                close(c->fd);
                if (rate < 0) continue;
                c->blocked = false;
                if (!dial(c)) die("connect");
            }
            if (!was_busy || c->busy || rate < 0) continue;
            if (step) {
                idle[n_idle++] = c;
            } else if (now_ns() < end) {
                begin(c, now_ns());
                n_busy++;
            }
        }
    }
    report((now_ns() - start) / (double)NS, n_busy);
    return 0;
}
