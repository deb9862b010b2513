/* The upstream that every proxy stands in front of: HTTP/1.1, one thread, raw epoll, keep-alive.
 *
 *   GET /bytes/N   N bytes (at most 64 MiB)
 *   GET /cache/N   the same with Cache-Control: max-age=86400
 *   GET /count     how many requests came so far, this kind not counted
 *   GET /echo      the request's own head as the body: shows which headers a proxy sent on
 *   GET <other>    1 KiB
 *
 * It understands only what the benchmark sends (no request bodies) and costs about 2.5 us per answer,
 * so that the proxy on the other CPU is the thing that is measured.
 * Usage: upstream PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define IN_CAP 16384
#define OUT_CAP 32768
#define MAX_BODY (64u << 20)
#define CHUNK (1u << 20)

struct conn {
    int fd, closing;
    unsigned in_len;
    char in[IN_CAP];
    unsigned out_len, out_off;   /* heads and small bodies waiting to go */
    char out[OUT_CAP];
    size_t body;                 /* pattern bytes still to send after out[] */
};

static char *pattern;            /* CHUNK bytes */
static unsigned long asked;
static int epfd;

/* 1: everything sent, 0: would block, -1: dead */
static int flush_out(struct conn *c) {
    while (c->out_off < c->out_len || c->body) {
        unsigned head = c->out_len - c->out_off;
        struct iovec v[2] = {
            { c->out + c->out_off, head },
            { pattern, c->body < CHUNK ? c->body : CHUNK },
        };
        ssize_t w = writev(c->fd, v, 2);
        if (w < 0) {
            if (errno == EINTR) continue;
            return errno == EAGAIN ? 0 : -1;
        }
        if ((size_t)w <= head) { c->out_off += (unsigned)w; continue; }
        c->out_off = c->out_len;
        c->body -= (size_t)w - head;
    }
    c->out_len = c->out_off = 0;
    return 1;
}

static void put_head(struct conn *c, size_t len, const char *fields) {
    c->out_len += (unsigned)snprintf(c->out + c->out_len, OUT_CAP - c->out_len,
        "HTTP/1.1 200 OK\r\nServer: upstream\r\nContent-Type: text/plain\r\n%sContent-Length: %zu\r\n\r\n", fields, len);
}

static void put_bytes(struct conn *c, const char *p, size_t len, const char *fields) {
    put_head(c, len, fields);
    memcpy(c->out + c->out_len, p, len);
    c->out_len += (unsigned)len;
}

static void put_count(struct conn *c) {
    char text[32];
    put_bytes(c, text, (size_t)snprintf(text, sizeof text, "%lu", asked), "Cache-Control: no-store\r\n");
}

static void answer(struct conn *c, const char *head, unsigned head_len) {
    const char *path = head + 4;                       /* after "GET " */
    if (!memcmp(path, "/count", 6)) { put_count(c); return; }
    asked++;
    if (!memcmp(path, "/echo", 5)) { put_bytes(c, head, head_len, ""); return; }
    int cached = !memcmp(path, "/cache/", 7);
    const char *fields = cached ? "Cache-Control: max-age=86400\r\n" : "";
    size_t n = cached || !memcmp(path, "/bytes/", 7) ? strtoul(path + 7, NULL, 10) : 1024;
    if (n <= 2048) { put_bytes(c, pattern, n, fields); return; }
    c->body = n > MAX_BODY ? MAX_BODY : n;
    put_head(c, c->body, fields);
}

/* Answers what is buffered, until a big body has to go first. -1: not a request that we know. */
static int process(struct conn *c) {
    unsigned pos = 0;
    /* in[] is smaller than half of out[], so one whole echo always still fits */
    while (pos < c->in_len && !c->body && !c->closing && c->out_len < OUT_CAP - IN_CAP - 512) {
        char *s = c->in + pos, *e = memmem(s, c->in_len - pos, "\r\n\r\n", 4);
        if (!e) break;
        if (memcmp(s, "GET ", 4)) return -1;
        unsigned head_len = (unsigned)(e + 4 - s);
        if (memmem(s, head_len, "lose\r\n", 6)) {      /* rare, so look closer only then */
            e[2] = 0;
            c->closing = strcasestr(s, "\r\nconnection: close") != NULL;
            e[2] = '\r';
        }
        answer(c, s, head_len);
        pos += head_len;
    }
    if (pos) {
        memmove(c->in, c->in + pos, c->in_len - pos);
        c->in_len -= pos;
    }
    return 0;
}

/* Send what is owed, answer what is buffered, then read more. 0: wait for the next event, -1: close.
 * A short read has emptied the socket, which saves asking again, unless the end of the stream may be waiting. */
static int serve(struct conn *c, int hup) {
    for (int empty = 0;;) {
        int sent = flush_out(c);
        if (sent <= 0) return sent;
        if (process(c) < 0) return -1;
        if (c->out_len || c->body) continue;
        if (c->closing || c->in_len == IN_CAP) return -1;
        if (empty) return 0;
        ssize_t r = recv(c->fd, c->in + c->in_len, IN_CAP - c->in_len, 0);
        if (r > 0) {
            empty = !hup && (unsigned)r < IN_CAP - c->in_len;
            c->in_len += (unsigned)r;
            continue;
        }
        if (r < 0 && errno == EAGAIN) return 0;
        if (r == 0 || errno != EINTR) return -1;
    }
}

static void accept_all(int ls) {
    int fd, one = 1;
    while ((fd = accept4(ls, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct conn *c = calloc(1, sizeof *c);
        if (!c) { close(fd); continue; }
        c->fd = fd;
        struct epoll_event e = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c };
        epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &e);
    }
}

static int listen_on(int port) {
    int ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(ls, (void *)&a, sizeof a) || listen(ls, 4096)) { perror("bind"); exit(1); }
    return ls;
}

int main(int argc, char **argv) {
    if (argc < 2) { fprintf(stderr, "usage: upstream PORT\n"); return 2; }
    signal(SIGPIPE, SIG_IGN);
    pattern = malloc(CHUNK);
    for (unsigned i = 0; i < CHUNK; i++) pattern[i] = "abcdefghijklmnopqrstuvwxyz012345"[i & 31];
    int ls = listen_on(atoi(argv[1]));
    epfd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL }, evs[256];
    epoll_ctl(epfd, EPOLL_CTL_ADD, ls, &ev);
    for (;;) {
        int n = epoll_wait(epfd, evs, 256, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = evs[i].data.ptr;
            if (!c) { accept_all(ls); continue; }
            if (serve(c, evs[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) < 0) { close(c->fd); free(c); }
        }
    }
}
