// A model server that costs next to nothing: one thread, constant answers. Loopback only.
//
//   upstream PORT
//
// POST anything: three fields of the request's JSON say how it is answered. "stream": true gives "max_tokens"
// events; "seed" is the number of milliseconds between them, or before an answer that is not streamed.
// GET /stats tells what was seen; any other GET gets a body that health checks and model lists are happy with.
#include "common.h"

enum state { READING, STREAMING, DELAYED };

struct conn {
    int fd;
    bool blocked; // the socket takes no more for now
    enum state state;
    int place; // in `working`, or -1
    struct bytes in, out;
    size_t out_done;
    uint64_t due, period;
    long left; // events still to send
};

static int ep;
static struct conn **working; // those with an answer that is not sent whole
static int n_working, cap_working;
static uint64_t n_requests, n_aborts, last_abort_ns, bytes_out, n_connections;
static struct bytes whole_answer;

static void begin_work(struct conn *c, enum state state) {
    if (n_working == cap_working) {
        cap_working = cap_working ? 2 * cap_working : 256;
        if (!(working = realloc(working, cap_working * sizeof *working))) die("realloc");
    }
    c->state = state;
    c->place = n_working;
    working[n_working++] = c;
}

static void end_work(struct conn *c) {
    if (c->place >= 0) {
        working[c->place] = working[--n_working];
        working[c->place]->place = c->place;
    }
    c->place = -1;
    c->state = READING;
}

static void hang_up(struct conn *c) {
    if (c->place >= 0) { // the client left before the end of its answer
        n_aborts++;
        last_abort_ns = now_ns();
        end_work(c);
    }
    close(c->fd);
    free(c->in.data);
    free(c->out.data);
    free(c);
}

// False when the other side is gone.
static bool flush(struct conn *c) {
    while (c->out_done < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->out_done, c->out.len - c->out_done, 0);
        if (n < 0 && errno != EAGAIN) return false;
        if (n < 0) {
            if (!c->blocked) watch(ep, EPOLL_CTL_MOD, c->fd, EPOLLIN | EPOLLRDHUP | EPOLLOUT, c);
            c->blocked = true;
            return true;
        }
        c->out_done += n;
        bytes_out += n;
    }
    c->out.len = c->out_done = 0;
    if (c->blocked) watch(ep, EPOLL_CTL_MOD, c->fd, EPOLLIN | EPOLLRDHUP, c);
    c->blocked = false;
    return true;
}

static void say_event(struct conn *c) {
    char event[400], size[16];
    int n = c->left > 0
        ? snprintf(event, sizeof event,
              "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\","
              "\"created\":1760000000,\"model\":\"bench/model\",\"choices\":[{\"index\":0,\"delta\":"
              "{\"content\":\"~T%0*llu tok\"},\"finish_reason\":%s}]}\n\n",
              STAMP_DIGITS, (unsigned long long)now_ns(), c->left == 1 ? "\"stop\"" : "null")
        : snprintf(event, sizeof event, "data: [DONE]\n\n");
    append(&c->out, size, snprintf(size, sizeof size, "%x\r\n", n));
    append(&c->out, event, n);
    append(&c->out, "\r\n", 2);
    if (c->left-- == 0) {
        append(&c->out, "0\r\n\r\n", 5);
        end_work(c);
    }
}

// A number or true/false among the top of a JSON text; good enough for requests of our own.
static long number_in(const char *json, size_t len, const char *key, long fallback) {
    char quoted[32];
    int n = snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *p = memmem(json, len, quoted, n), *end = json + len;
    if (!p) return fallback;
    for (p += n; p < end && (*p == ' ' || *p == ':'); p++) {}
    return p == end || *p == 'f' || *p == 'n' ? 0 : *p == 't' ? 1 : atol(p);
}

static void answer_get(struct conn *c, const char *head) {
    char body[400], lines[120];
    int n = strncmp(head, "GET /stats ", 11) == 0
        ? snprintf(body, sizeof body,
              "{\"requests\":%llu,\"working\":%d,\"aborts\":%llu,\"last_abort_ns\":%llu,\"bytes_out\":%llu,"
              "\"connections\":%llu}",
              (unsigned long long)n_requests, n_working, (unsigned long long)n_aborts,
              (unsigned long long)last_abort_ns, (unsigned long long)bytes_out, (unsigned long long)n_connections)
        : snprintf(body, sizeof body,
              "{\"object\":\"list\",\"data\":[{\"id\":\"bench/model\",\"object\":\"model\",\"created\":1760000000,"
              "\"owned_by\":\"bench\"}]}");
    append(&c->out, lines,
        snprintf(lines, sizeof lines,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n", n));
    append(&c->out, body, n);
}

static void answer_post(struct conn *c, const char *body, size_t len) {
    static const char stream_head[] =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
        "transfer-encoding: chunked\r\n\r\n";
    long pause_ms = number_in(body, len, "seed", 0);
    n_requests++;
    c->period = pause_ms * 1000000ull;
    if (number_in(body, len, "stream", 0)) {
        c->left = number_in(body, len, "max_tokens", 100);
        // Streams that begin together must not speak together.
        c->due = now_ns() + (c->period ? rand() % c->period : 0);
        append(&c->out, stream_head, sizeof stream_head - 1);
        begin_work(c, STREAMING);
    } else if (pause_ms) {
        c->due = now_ns() + c->period;
        begin_work(c, DELAYED);
    } else {
        append(&c->out, whole_answer.data, whole_answer.len);
    }
}

// Answers every whole request that is there, one after the other. False when the other side is gone.
static bool serve(struct conn *c) {
    while (c->state == READING) {
        size_t head = head_length(&c->in);
        if (!head) return true;
        const char *length = field_of(c->in.data, head, "\ncontent-length:");
        size_t total = head + (length ? strtoul(length, NULL, 10) : 0);
        const char *expect = c->in.len < total ? field_of(c->in.data, head, "\nexpect: 100") : NULL;
        c->in.data[head - 1] = '\n';
        if (c->in.len < total) {
            if (expect && c->in.len == head) send(c->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, 0);
            return true;
        }
        if (c->in.data[0] == 'P')
            answer_post(c, c->in.data + head, total - head);
        else
            answer_get(c, c->in.data);
        memmove(c->in.data, c->in.data + total, c->in.len -= total);
        if (!flush(c)) return false;
    }
    return true;
}

static bool receive(struct conn *c) {
    for (;;) {
        reserve(&c->in, 65536);
        size_t room = c->in.cap - c->in.len;
        ssize_t n = recv(c->fd, c->in.data + c->in.len, room, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) return false;
        if (n > 0) c->in.len += n;
        if (n < (ssize_t)room) return serve(c);
    }
}

// Says what is due on every connection that can take it.
static void work(void) {
    uint64_t now = now_ns();
    for (int i = 0; i < n_working; i++) {
        struct conn *c = working[i];
        if (c->blocked || c->due > now) continue;
        if (c->state == DELAYED) {
            append(&c->out, whole_answer.data, whole_answer.len);
            end_work(c);
        } else {
            c->due = c->period ? c->due + c->period : now;
            say_event(c);
        }
        if (c->place < 0) i--; // another one has taken this place
        if (!flush(c) || (c->state == READING && !serve(c))) {
            if (c->place >= 0) i--;
            hang_up(c);
        }
    }
}

static int until_next_due_ns(struct timespec *wait) {
    uint64_t now = now_ns(), next = UINT64_MAX;
    for (int i = 0; i < n_working; i++)
        if (!working[i]->blocked && working[i]->due < next) next = working[i]->due;
    if (next == UINT64_MAX) return 0;
    uint64_t left = next > now ? next - now : 0;
    *wait = (struct timespec){.tv_sec = left / NS, .tv_nsec = left % NS};
    return 1;
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) return;
        never_block(fd);
        struct conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->place = -1;
        n_connections++;
        watch(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP, c);
    }
}

static void make_whole_answer(void) {
    struct bytes body = {0};
    char text[200];
    append(&body, text,
        sprintf(text, "{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1760000000,"
                      "\"model\":\"bench/model\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","));
    append(&body, "\"content\":\"", 11);
    for (int i = 0; i < 32; i++) append(&body, "lorem ipsum ", 12);
    append(&body, text,
        sprintf(text, "\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":96,"
                      "\"total_tokens\":108}}"));
    append(&whole_answer, text,
        sprintf(text, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n", body.len));
    append(&whole_answer, body.data, body.len);
    free(body.data);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: upstream PORT\n");
        return 2;
    }
    prepare_process();
    make_whole_answer();
    ep = epoll_create1(0);
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in address = loopback(atoi(argv[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) die("listen");
    never_block(listener);
    watch(ep, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    for (;;) {
        struct epoll_event events[512];
        struct timespec wait;
        int n = epoll_pwait2(ep, events, 512, until_next_due_ns(&wait) ? &wait : NULL, NULL);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c) {
                accept_all(listener);
                continue;
            }
            bool alive = !(events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
            if (alive && events[i].events & EPOLLIN) alive = receive(c);
            if (alive && events[i].events & EPOLLOUT) alive = flush(c) && serve(c);
            if (!alive) hang_up(c);
        }
        work();
    }
}
