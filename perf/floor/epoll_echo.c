// The floor under one HTTP POST: what the kernel alone costs. One thread, level-triggered epoll,
// one recv and one send a request, no parsing: a load generator that sends a request in one piece
// and waits for its answer is taken at its word.
//
//     epoll_echo PORT [ANSWER_BYTES]
//
// ANSWER_BYTES pads the answer's head, so that both sides of a comparison send as many bytes.

#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, READ_BYTES = 64 * 1024, ANSWER_BYTES_MAX = 4096 };

static const char HEAD[] = "HTTP/1.1 201 Created\r\n"
                           "content-type: application/json\r\n"
                           "content-length: 14\r\n";
static const char PAD[] = "x: ";
static const char BODY[] = "\r\n{\"accepted\":1}";

static void must(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

// Returns the answer's size.
static size_t make_answer(char *answer, size_t wanted) {
    size_t size = strlen(HEAD) + strlen(BODY), pad = wanted > size ? wanted - size : 0;
    size_t least = strlen(PAD) + 2;
    if (pad > 0 && (pad < least || wanted > ANSWER_BYTES_MAX)) {
        fprintf(stderr, "an answer has %zu bytes, or %zu to %d\n", size, size + least,
                ANSWER_BYTES_MAX);
        exit(1);
    }
    char *at = stpcpy(answer, HEAD);
    if (pad > 0) {
        at = stpcpy(at, PAD);
        memset(at, '-', pad - least);
        at = stpcpy(at + (pad - least), "\r\n");
    }
    at = stpcpy(at, BODY);
    return (size_t)(at - answer);
}

static int listen_on(int port) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    must(listener >= 0, "socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((unsigned short)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    must(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    must(listen(listener, 4096) == 0, "listen");
    return listener;
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

static void accept_all(int epoll, int listener) {
    int one = 1, fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(epoll, fd);
    }
}

int main(int argc, char **argv) {
    static char request[READ_BYTES], answer[ANSWER_BYTES_MAX + 1];
    int port = argc > 1 ? atoi(argv[1]) : 0;
    if (port <= 0 || port > 65535) {
        fprintf(stderr, "usage: epoll_echo PORT [ANSWER_BYTES]\n");
        return 2;
    }
    size_t answer_size = make_answer(answer, argc > 2 ? strtoul(argv[2], NULL, 10) : 0);
    int epoll = epoll_create1(0), listener = listen_on(port);
    watch(epoll, listener);
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        must(ready >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all(epoll, listener);
                continue;
            }
            ssize_t got = recv(fd, request, sizeof request, 0);
            if (got < 0 && errno == EAGAIN)
                continue;
            if (got <= 0 || send(fd, answer, answer_size, MSG_NOSIGNAL) != (ssize_t)answer_size)
                close(fd);
        }
    }
}
