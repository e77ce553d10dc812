// The least an echo server can do: one thread a core, each with its own listener (SO_REUSEPORT) and its own epoll. No
// time-outs, no limits, no back-pressure. A yardstick for benches/echo.sh.
//
//     cc -O2 -pthread -o epoll-echo benches/epoll-echo.c && ./epoll-echo PORT

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int port;

static int die(const char *what) {
    perror(what);
    exit(6);
}

static void *serve(void *unused) {
    (void)unused;
    static __thread char buffer[128 << 10];
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, epoll = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&addr, sizeof addr)) die("bind");
    if (listen(listener, 4096)) die("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (client < 0) continue;
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event.data.fd = client;
                epoll_ctl(epoll, EPOLL_CTL_ADD, client, &event);
                continue;
            }
            ssize_t got = read(fd, buffer, sizeof buffer), sent = 0;
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0) {
                close(fd);
                continue;
            }
            while (sent < got) {
                ssize_t n = write(fd, buffer + sent, got - sent);
                if (n < 0 && errno != EAGAIN) break;
                if (n > 0) sent += n;
            }
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: epoll-echo PORT\n");
        return 2;
    }
    port = atoi(argv[1]);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    pthread_t thread;
    for (long i = 1; i < cores; i++) pthread_create(&thread, NULL, serve, NULL);
    serve(NULL);
}
