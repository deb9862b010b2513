/* lgen: one-thread HTTP/1.1 load generator.
 *
 *   lgen [-c CONNS] [-d SECS] [-w WARMUP] [-R RATE] [-H FILE | -n PATHS] [-a] [-P PID,PID..] PORT PATH
 *
 * RATE 0 (default): closed loop, every connection asks again as soon as its answer is complete.
 * RATE n: open loop, n requests/s at random (Poisson) times from a fixed seed, the same for every proxy.
 *         Latency then counts from the time the request was MEANT to go, so a stall of the proxy is
 *         charged to every request that it held up.
 * -H: a file of header lines; each connection adds one of them to all its requests, in turn.
 * -n: so many paths, PATH with a number from 0 behind it; each request of whatever connection takes the next one.
 * -a: each connection comes from an address of its own, 127.0.1.0 and those behind it.
 * -P: processes whose CPU clocks are read at the first and the last instant of the measured window, so
 *     that the CPU time and the answers belong to the very same stretch of time.
 * Prints one JSON object. Big bodies are dropped in the kernel (MSG_TRUNC), so they cost little here.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUF 16384
#define MAX_LAT 4000000u
#define MAX_PIDS 64
#define NS 1000000000ull
#define MAX_REQUESTS 65536
enum state { HEAD, LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };

struct request { char *text; unsigned len; };

struct conn {
    int fd, busy, close_after, status;
    enum state state;
    unsigned sent, len;
    char buf[BUF];
    uint64_t left, t0;
    const struct request *request;
    struct conn *next_free;
};

static int epfd, port, nconns = 64, measuring, pids[MAX_PIDS], npids, addresses;
static double secs = 5, warm = 1, rate = 0;
static char sink[1 << 20];
static struct request requests[MAX_REQUESTS];
static unsigned nrequests, nasked, npaths;
static struct conn *conns, *free_head, *free_tail;
static uint32_t *lat, nlat;                            /* in 10 ns */
static uint64_t done, bytes, errors, answered, statuses[600];

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

static double uniform(void) {
    static uint64_t x = 0x9E3779B97F4A7C15u;
    x ^= x << 13; x ^= x >> 7; x ^= x << 17;
    return ((double)(x >> 11) + 0.5) / 9007199254740992.0;
}

/* ---- sending */
static void dial(struct conn *c) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->len = 0; c->state = HEAD; c->close_after = 0;
    if (addresses) {
        struct sockaddr_in own = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000100u + (unsigned)(c - conns)) };
        if (bind(c->fd, (void *)&own, sizeof own)) errors++;
    }
    if (connect(c->fd, (void *)&a, sizeof a) && errno != EINPROGRESS) errors++;
    struct epoll_event e = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c };
    epoll_ctl(epfd, EPOLL_CTL_ADD, c->fd, &e);
}

static void push(struct conn *c) {
    while (c->sent < c->request->len) {
        ssize_t w = send(c->fd, c->request->text + c->sent, c->request->len - c->sent, MSG_NOSIGNAL);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return;                             /* EPOLLOUT calls again */
        c->sent += (unsigned)w;
    }
}

static const struct request *next_request(void) { return &requests[nasked++ % nrequests]; }

static void ask(struct conn *c, uint64_t t) {
    if (npaths) c->request = next_request();
    c->busy = 1; c->t0 = t; c->sent = 0; c->state = HEAD; c->status = 0;
    push(c);
}

static void redial(struct conn *c) { close(c->fd); dial(c); }

/* the answer broke off: count it, ask again on a new connection */
static void ask_again(struct conn *c) {
    if (measuring) errors++;
    redial(c);
    c->sent = 0;
    push(c);
}

static void put_free(struct conn *c) {
    c->busy = 0; c->next_free = NULL;
    if (free_tail) free_tail->next_free = c; else free_head = c;
    free_tail = c;
}

static struct conn *take_free(void) {
    struct conn *c = free_head;
    free_head = c->next_free;
    if (!free_head) free_tail = NULL;
    return c;
}

static void finish(struct conn *c) {
    uint64_t t = now(), d = (t - c->t0) / 10;
    answered++;
    if (measuring) {
        done++;
        if (c->status >= 0 && c->status < 600) statuses[c->status]++;
        if (nlat < MAX_LAT) lat[nlat++] = d > UINT32_MAX ? UINT32_MAX : (uint32_t)d;
    }
    c->busy = 0;
    if (c->close_after) redial(c);
    if (rate > 0) put_free(c); else ask(c, t);
}

/* ---- reading an answer */
static void consume(struct conn *c, unsigned n) {
    memmove(c->buf, c->buf + n, c->len - n);
    c->len -= n;
}

static int starts(const char *line, const char *name) { return !strncasecmp(line, name, strlen(name)); }

/* 2: head complete, 0: more needed, -1: broken */
static int read_head(struct conn *c) {
    char *e = memmem(c->buf, c->len, "\r\n\r\n", 4);
    if (!e) return c->len == BUF ? -1 : 0;
    if (memcmp(c->buf, "HTTP/1.", 7)) return -1;
    int chunked = 0;
    c->status = atoi(c->buf + 9);
    c->left = 0;
    for (char *p = c->buf; (p = memchr(p, '\n', (size_t)(e - p))) && ++p < e;) {
        if (starts(p, "content-length:")) c->left = strtoull(p + 15, NULL, 10);
        else if (starts(p, "transfer-encoding:")) chunked = 1;
        else if (starts(p, "connection: close")) c->close_after = 1;
    }
    consume(c, (unsigned)(e + 4 - c->buf));
    c->state = chunked ? CHUNK_SIZE : LENGTH;
    return 2;
}

/* 1: the last line of a chunked body, 0: more needed, -1: broken, 2: go on */
static int read_chunk_line(struct conn *c) {
    char *nl = memchr(c->buf, '\n', c->len);
    if (!nl) return c->len == BUF ? -1 : 0;
    unsigned n = (unsigned)(nl + 1 - c->buf);
    int last = c->state == TRAILER && n <= 2;
    if (c->state == CHUNK_END) c->state = CHUNK_SIZE;
    else if (c->state == CHUNK_SIZE) {
        c->left = strtoull(c->buf, NULL, 16);
        c->state = c->left ? CHUNK_DATA : TRAILER;
    }
    consume(c, n);
    return last ? 1 : 2;
}

/* 1: answer complete, 0: more needed, -1: broken */
static int eat(struct conn *c) {
    for (;;) {
        int r = 2;
        if (c->state == HEAD) r = read_head(c);
        else if (c->state == LENGTH || c->state == CHUNK_DATA) {
            uint64_t k = c->len < c->left ? c->len : c->left;
            c->left -= k;
            if (measuring) bytes += k;
            consume(c, (unsigned)k);
            if (c->left) return 0;
            if (c->state == LENGTH) return 1;
            c->state = CHUNK_END;
        } else r = read_chunk_line(c);
        if (r != 2) return r;
    }
}

/* one recv that throws a big body away; -2: nothing there, else as eat() */
static int drop_body(struct conn *c) {
    size_t want = c->left < sizeof sink ? (size_t)c->left : sizeof sink;
    ssize_t r = recv(c->fd, sink, want, MSG_TRUNC);
    if (r <= 0) return r < 0 && errno == EAGAIN ? -2 : -1;
    c->left -= (uint64_t)r;
    if (measuring) bytes += (uint64_t)r;
    if (c->left) return 0;
    if (c->state == LENGTH) return 1;
    c->state = CHUNK_END;
    return 0;
}

static int read_small(struct conn *c) {
    ssize_t r = recv(c->fd, c->buf + c->len, BUF - c->len, 0);
    if (r <= 0) return r < 0 && errno == EAGAIN ? -2 : -1;
    c->len += (unsigned)r;
    return eat(c);
}

static void on_read(struct conn *c) {
    if (!c->busy) {                                    /* idle: only a close can come */
        ssize_t r = recv(c->fd, sink, 16, 0);
        if (r == 0 || (r < 0 && errno != EAGAIN)) redial(c);
        return;
    }
    int r = 0;
    while (r == 0) {
        int big = (c->state == LENGTH || c->state == CHUNK_DATA) && c->len == 0 && c->left > 4096;
        r = big ? drop_body(c) : read_small(c);
    }
    if (r == 1) finish(c);
    else if (r == -1) ask_again(c);
}

/* ---- the run */
static uint64_t cpu_ns(void) {
    uint64_t s = 0;
    for (int i = 0; i < npids; i++) {
        struct timespec t;
        clockid_t id;
        if (clock_getcpuclockid(pids[i], &id) == 0 && clock_gettime(id, &t) == 0) s += (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
    }
    return s;
}

/* sends what is due in the open loop; returns how long epoll may sleep */
static uint64_t due(uint64_t *next, uint64_t t, uint64_t limit) {
    if (rate <= 0) return limit - t;
    while (*next <= t && free_head) {
        ask(take_free(), *next);
        *next += (uint64_t)(-log(uniform()) / rate * 1e9);
    }
    if (!free_head) return 1000000;                    /* every connection is busy: an answer will wake us */
    return *next <= t ? 0 : (*next < limit ? *next : limit) - t;
}

static void poll_once(uint64_t wait_ns) {
    struct epoll_event evs[256];
    if (wait_ns > NS / 10) wait_ns = NS / 10;
    struct timespec ts = { 0, (long)wait_ns };
    int n = epoll_pwait2(epfd, evs, 256, &ts, NULL);
    for (int i = 0; i < n; i++) {
        struct conn *c = evs[i].data.ptr;
        if (c->busy && c->sent < c->request->len && (evs[i].events & EPOLLOUT)) push(c);
        if (evs[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) on_read(c);
    }
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile(double p) {                   /* in us */
    if (!nlat) return -1;
    uint32_t i = (uint32_t)ceil(p / 100.0 * nlat);
    return lat[i ? i - 1 : 0] / 100.0;
}

static void report(uint64_t window, uint64_t cpu, double behind) {
    qsort(lat, nlat, sizeof *lat, by_size);
    printf("{\"completed\":%lu,\"answered\":%lu,\"secs\":%.4f,\"bytes\":%lu,\"errors\":%lu,\"behind_s\":%.3f,\"cpu_ns\":%lu,\"status\":{",
           done, answered, (double)window / 1e9, bytes, errors, behind, cpu);
    const char *comma = "";
    for (int i = 0; i < 600; i++) {
        if (!statuses[i]) continue;
        printf("%s\"%d\":%lu", comma, i, statuses[i]);
        comma = ",";
    }
    printf("},\"p50\":%.2f,\"p99\":%.2f}\n", percentile(50), percentile(99));
}

static void run(void) {
    uint64_t t0 = now(), begin = t0 + (uint64_t)(warm * 1e9), end = begin + (uint64_t)(secs * 1e9);
    uint64_t next = t0 + NS / 50, first = 0, cpu0 = 0, t;
    while ((t = now()) < end) {
        if (!measuring && t >= begin) { measuring = 1; first = t; cpu0 = cpu_ns(); }
        poll_once(due(&next, t, measuring ? end : begin));
    }
    report(t - first, cpu_ns() - cpu0, rate > 0 && next < t ? (double)(t - next) / 1e9 : 0);
}

/* ---- setting up */
/* header: one line without its end, or "" for none. 0: no more room */
static int add_request(const char *path, const char *header) {
    if (nrequests == MAX_REQUESTS) return 0;
    struct request *r = &requests[nrequests];
    int n = asprintf(&r->text, "GET %s HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: lgen\r\nAccept: */*\r\n%s%s\r\n",
                     path, header, *header ? "\r\n" : "");
    if (n < 0) return 0;
    r->len = (unsigned)n;
    nrequests++;
    return 1;
}

/* 0: the file can't be read or has no line */
static int add_requests(const char *path, const char *file) {
    FILE *f = fopen(file, "r");
    if (!f) return 0;
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, f) > 0) {
        line[strcspn(line, "\r\n")] = 0;
        if (*line && !add_request(path, line)) break;
    }
    free(line);
    fclose(f);
    return nrequests > 0;
}

/* 0: no more room */
static int add_paths(const char *path, unsigned n) {
    char numbered[1024];
    for (unsigned i = 0; i < n; i++) {
        snprintf(numbered, sizeof numbered, "%s%u", path, i);
        if (!add_request(numbered, "")) return 0;
    }
    return 1;
}

static int usage(void) {
    fprintf(stderr, "usage: lgen [-c CONNS] [-d SECS] [-w WARMUP] [-R RATE] [-H FILE | -n PATHS] [-a] [-P PID,PID..] PORT PATH\n");
    return 2;
}

int main(int argc, char **argv) {
    const char *headers = NULL;
    int o;
    while ((o = getopt(argc, argv, "c:d:w:R:H:n:aP:")) != -1) switch (o) {
        case 'c': nconns = atoi(optarg); break;
        case 'd': secs = atof(optarg); break;
        case 'w': warm = atof(optarg); break;
        case 'R': rate = atof(optarg); break;
        case 'H': headers = optarg; break;
        case 'n': npaths = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'a': addresses = 1; break;
        case 'P': for (char *t = strtok(optarg, ","); t && npids < MAX_PIDS; t = strtok(NULL, ",")) pids[npids++] = atoi(t); break;
        default: return usage();
    }
    if (argc - optind < 2 || (headers && npaths)) return usage();
    port = atoi(argv[optind]);
    const char *path = argv[optind + 1];
    int added = headers ? add_requests(path, headers) : npaths ? add_paths(path, npaths) : add_request(path, "");
    if (!added) {
        fprintf(stderr, headers ? "lgen: no header line in %s\n" : "lgen: no room for the requests to %s\n", headers ? headers : path);
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
    lat = malloc(sizeof *lat * MAX_LAT);
    conns = calloc((size_t)nconns, sizeof *conns);
    epfd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < nconns; i++) {
        conns[i].request = next_request();
        dial(&conns[i]);
        if (rate > 0) put_free(&conns[i]);
        else { conns[i].busy = 1; conns[i].t0 = now(); }   /* EPOLLOUT sends the first request */
    }
    run();
    return 0;
}
