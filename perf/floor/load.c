// A closed loop of POSTs over keep-alive connections: each sends its next request when the answer
// to the last one is complete. For CPU per request, not for latency.
//
//     load PORT CONNECTIONS SECONDS [REQUESTS]
//     load PORT CONNECTIONS idle
//
// Ends after SECONDS, or when REQUESTS were answered. Prints
//     requests 123456 seconds 3.000 answer_bytes 91
// Exits 1 unless every answer was a whole 201. With `idle` each connection sends one request, all
// of them as the same server, and keeps silent once the line is printed, until the process is ended.

#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 16384, ANSWER_BYTES_MAX = 4096, WAIT_MS = 5000 };

struct connection {
    int fd;
    size_t request_size, held;
    char request[256], answer[ANSWER_BYTES_MAX + 1];
};

static void must(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "load: %s: %s\n", what, errno ? strerror(errno) : "unexpected");
        exit(1);
    }
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// All requests have the same size, whatever the server's number.
static void open_connection(struct connection *c, int epoll, int port, unsigned number) {
    char body[128];
    int body_size = snprintf(body, sizeof body,
                             "{\"server_id\":%u,\"metric_type\":\"cpu\",\"value\":53.2,"
                             "\"unit\":\"%%\"}",
                             1000 + number);
    c->request_size = (size_t)snprintf(c->request, sizeof c->request,
                                       "POST /api/metrics HTTP/1.1\r\n"
                                       "Host: 127.0.0.1:%d\r\n"
                                       "Content-Type: application/json\r\n"
                                       "Content-Length: %d\r\n\r\n%s",
                                       port, body_size, body);
    int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((unsigned short)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    must(c->fd >= 0, "socket");
    must(connect(c->fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) == 0, "epoll_ctl");
}

static void send_request(struct connection *c) {
    ssize_t sent = send(c->fd, c->request, c->request_size, MSG_NOSIGNAL);
    must(sent == (ssize_t)c->request_size, "send");
}

// The size of the answer once it is complete, else 0.
static size_t receive(struct connection *c) {
    errno = 0;
    ssize_t got = recv(c->fd, c->answer + c->held, ANSWER_BYTES_MAX - c->held, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return 0;
    must(got > 0, "recv");
    c->held += (size_t)got;
    c->answer[c->held] = 0;
    char *end = strstr(c->answer, "\r\n\r\n");
    if (!end) {
        must(c->held < ANSWER_BYTES_MAX, "answer's head too large");
        return 0;
    }
    must(strncmp(c->answer, "HTTP/1.1 201 ", 13) == 0, c->answer);
    char *length = strcasestr(c->answer, "\r\ncontent-length:");
    must(length && length < end, "no content-length");
    size_t size = (size_t)(end + 4 - c->answer) + strtoul(length + 17, NULL, 10);
    if (c->held < size)
        return 0;
    must(c->held == size, "more than one answer");
    c->held = 0;
    return size;
}

int main(int argc, char **argv) {
    static struct connection connections[CONNECTIONS_MAX];
    int port = argc > 1 ? atoi(argv[1]) : 0, count = argc > 2 ? atoi(argv[2]) : 0;
    int idle = argc == 4 && strcmp(argv[3], "idle") == 0;
    double limit = idle ? 3600 : argc > 3 ? atof(argv[3]) : 0;
    unsigned long wanted = idle       ? (unsigned long)count
                           : argc > 4 ? strtoul(argv[4], NULL, 10)
                                      : -1UL;
    if (port <= 0 || port > 65535 || count <= 0 || count > CONNECTIONS_MAX || limit <= 0 ||
        wanted < (unsigned long)count) {
        fprintf(stderr, "usage: load PORT CONNECTIONS SECONDS [REQUESTS >= CONNECTIONS]\n"
                        "       load PORT CONNECTIONS idle\n");
        return 2;
    }
    int epoll = epoll_create1(0);
    // Under load every connection is a server of its own, as in a fleet.
    for (int i = 0; i < count; i++)
        open_connection(&connections[i], epoll, port, idle ? 0 : (unsigned)i);
    unsigned long sent = 0, answered = 0;
    size_t answer_size = 0;
    double started = seconds(), now = started;
    for (; sent < (unsigned long)count; sent++)
        send_request(&connections[sent]);
    // Every request sent is also answered: a half-done one would count on the server's side only.
    while (answered < sent) {
        struct epoll_event events[256];
        errno = 0;
        int ready = epoll_wait(epoll, events, 256, WAIT_MS);
        must(ready > 0, "no answer");
        now = seconds();
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            size_t size = receive(c);
            if (size == 0)
                continue;
            answer_size = size;
            answered++;
            if (now - started < limit && sent < wanted) {
                send_request(c);
                sent++;
            }
        }
    }
    printf("requests %lu seconds %.3f answer_bytes %zu\n", answered, now - started, answer_size);
    if (idle && fflush(stdout) == 0)
        pause();
    return 0;
}
