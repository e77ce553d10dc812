// Many watchers of one raft-node, as the load of benches/watch.sh: each asks for changes and reads what comes, or nothing at
// all. One whose stream ends asks anew. At SIGTERM it says how much came, and how many streams ended.
//
//     cc -O2 -o watchers benches/watchers.c && ./watchers PORT COUNT PREFIX read|deaf
//
// %d in PREFIX stands for the watcher's number.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile sig_atomic_t stopped;

static void stop(int signal) {
    (void)signal;
    stopped = 1;
}

static int die(const char *what) {
    perror(what);
    exit(6);
}

// Asks for changes, as watcher `number`; gives the socket.
static int watch(int port, int number, const char *prefix) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) die("socket");
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr)) die("connect");
    char path[256], request[512];
    snprintf(path, sizeof path, prefix, number);
    int len = snprintf(request, sizeof request, "GET /watch?prefix=%s HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", path);
    if (write(fd, request, len) != len) die("write");
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: watchers PORT COUNT PREFIX read|deaf\n");
        return 2;
    }
    int port = atoi(argv[1]), count = atoi(argv[2]), deaf = !strcmp(argv[4], "deaf");
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int epoll = epoll_create1(0), *fds = calloc(count, sizeof *fds);
    static char buffer[256 << 10];
    for (int i = 0; i < count; i++) {
        fds[i] = watch(port, i, argv[3]);
        if (read(fds[i], buffer, 12) < 12 || memcmp(buffer, "HTTP/1.1 200", 12)) {
            fprintf(stderr, "watchers: watcher %d is refused: %.12s\n", i, buffer);
            return 1;
        }
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        if (!deaf) epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event);
    }
    printf("ready\n");
    fflush(stdout);
    unsigned long long bytes = 0, ended = 0;
    while (!stopped) {
        struct epoll_event events[256];
        int ready = epoll_wait(epoll, events, 256, 1000);
        for (int i = 0; i < ready; i++) {
            int number = events[i].data.u32;
            ssize_t got = recv(fds[number], buffer, sizeof buffer, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN) continue;
            if (got > 0) {
                bytes += got;
                continue;
            }
            ended++;
            close(fds[number]);
            fds[number] = watch(port, number, argv[3]);
            events[i].events = EPOLLIN;
            epoll_ctl(epoll, EPOLL_CTL_ADD, fds[number], &events[i]);
        }
    }
    printf("%llu bytes, %llu streams ended\n", bytes, ended);
}
