/* The program that the tests of the network run in the sandbox: one act per name, as in hostile.c. Static. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char buffer[1 << 17];

/* Prints what came of an act; returns the exit status. */
static int say(const char *name, long result) {
    printf("%s %d\n", name, result < 0 ? errno : 0);
    fflush(stdout);
    return result < 0;
}

/* The address of a name or number; exits when there is none. */
static socklen_t find(const char *host, const char *port, struct sockaddr_storage *to) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int failed = getaddrinfo(host, port, &hints, &found);
    if (failed) {
        printf("no address %d\n", failed);
        exit(2);
    }
    memcpy(to, found->ai_addr, found->ai_addrlen);
    return found->ai_addrlen;
}

/* A socket for an endpoint, connected; -1 when that failed. */
static int reach(const char *host, const char *port) {
    struct sockaddr_storage to;
    socklen_t length = find(host, port, &to);
    int fd = socket(to.ss_family, SOCK_STREAM, 0);
    return connect(fd, (void *)&to, length) < 0 ? -1 : fd;
}

static long drain(int fd) {
    long total = 0;
    ssize_t got;
    while ((got = read(fd, buffer, sizeof buffer)) > 0) {
        total += got;
    }
    return got < 0 ? -1 : total;
}

/* Sends a text, says that there is no more, prints what comes back. */
static int talk(int fd, const char *text) {
    if (write(fd, text, strlen(text)) < 0 || shutdown(fd, SHUT_WR) < 0) return say("write", -1);
    ssize_t got;
    while ((got = read(fd, buffer, sizeof buffer)) > 0) fwrite(buffer, 1, got, stdout);
    return got < 0 ? say("read", -1) : 0;
}

static int get(const char *host, const char *port, const char *text) {
    int fd = reach(host, port);
    return fd < 0 ? say("connect", -1) : talk(fd, text);
}

/* As event loops do it: watched by epoll before it is connected, and used by another number. */
static int get_by_epoll(const char *host, const char *port, const char *text) {
    struct sockaddr_storage to;
    socklen_t length = find(host, port, &to);
    int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int twin = dup(fd), loop = epoll_create1(0), error = -1;
    struct epoll_event event = {.events = EPOLLOUT | EPOLLET};
    epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
    if (connect(fd, (void *)&to, length) < 0 && errno != EINPROGRESS) return say("connect", -1);
    while (epoll_wait(loop, &event, 1, 10000) == 1 && !(event.events & (EPOLLOUT | EPOLLERR))) {}
    socklen_t size = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) return errno = error, say("connect", -1);
    close(fd);
    fcntl(twin, F_SETFL, 0);
    return talk(twin, text);
}

/* Whether a connection is made within so many milliseconds: a program with a time-out of its own. */
static int try(const char *host, const char *port, int milliseconds) {
    struct sockaddr_storage to;
    socklen_t length = find(host, port, &to);
    int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(fd, (void *)&to, length) < 0 && errno != EINPROGRESS) return say("connect", -1);
    struct pollfd wait = {fd, POLLOUT};
    printf("%d\n", poll(&wait, 1, milliseconds));
    return 0;
}

/* What a program finds out about its own socket. */
static int look(const char *host, const char *port) {
    int fd = reach(host, port), one = 1, got = 0;
    if (fd < 0) return say("connect", -1);
    struct sockaddr_in peer;
    char congestion[16];
    socklen_t length = sizeof peer, size = sizeof got, most = sizeof congestion;
    getpeername(fd, (void *)&peer, &length);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &got, &size);
    getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, &most);
    printf("%s %d %d %s\n", inet_ntoa(peer.sin_addr), ntohs(peer.sin_port), got, congestion);
    return 0;
}

/* Each way but an ordinary connection, one after the other. */
static int ways(const char *host, const char *port) {
    struct sockaddr_storage to;
    socklen_t length = find(host, port, &to);
    int tcp = socket(to.ss_family, SOCK_STREAM, 0), udp = socket(to.ss_family, SOCK_DGRAM, 0);
    say("fastopen", sendto(tcp, "x", 1, MSG_FASTOPEN, (void *)&to, length));
    say("udp", sendto(udp, "x", 1, 0, (void *)&to, length));
    int one = 1;
    tcp = socket(to.ss_family, SOCK_STREAM, 0);
    setsockopt(tcp, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one);
    long deferred = connect(tcp, (void *)&to, length);
    say("fastopen_connect", deferred < 0 ? deferred : write(tcp, "x", 1));
    say("raw", socket(AF_INET, SOCK_RAW, IPPROTO_TCP));
    say("packet", socket(AF_PACKET, SOCK_RAW, 0));
    say("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
    int multipath = socket(AF_INET, SOCK_STREAM, 262);
    say("mptcp", multipath < 0 ? multipath : connect(multipath, (void *)&to, length));
    return 0;
}

static struct sockaddr_in moving;
static in_port_t ports[2];
static volatile int racing = 1;

static void *change(void *nothing) {
    for (unsigned turn = 0; racing; turn++) *(volatile in_port_t *)&moving.sin_port = ports[turn % 2];
    return 0;
}

/* Changes the address while the kernel, or anybody else, reads it. */
static int race(const char *host, const char *allowed, const char *forbidden, int times) {
    pthread_t thread;
    moving.sin_family = AF_INET;
    inet_aton(host, &moving.sin_addr);
    ports[0] = htons(atoi(allowed));
    ports[1] = htons(atoi(forbidden));
    pthread_create(&thread, 0, change, 0);
    int made = 0, refused = 0;
    /* Until both have happened: then it was a race. */
    for (int turn = 0; turn < times || !made || !refused; turn++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (void *)&moving, sizeof moving) == 0) made++;
        else refused++;
        close(fd);
    }
    racing = 0;
    pthread_join(thread, 0);
    printf("raced\n");
    return 0;
}

/* Asks for many connections at once, prints how many are made soon, then talks over the first. */
static int flood(const char *host, const char *port, int times) {
    struct sockaddr_storage to;
    socklen_t length = find(host, port, &to);
    struct pollfd *all = calloc(times, sizeof *all);
    for (int turn = 0; turn < times; turn++) {
        all[turn] = (struct pollfd){socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0), POLLOUT};
        connect(all[turn].fd, (void *)&to, length);
    }
    int made, before = -1;
    while ((made = poll(all, times, 0)) != before || made == 0) {
        before = made;
        poll(0, 0, 300);
    }
    printf("%d\n", made);
    fcntl(all[0].fd, F_SETFL, 0);
    return talk(all[0].fd, "still here\n");
}

/* Waits for the end of a connection, then tries another one. */
static int outlive(const char *host, const char *port) {
    int fd = reach(host, port);
    if (fd < 0) return say("connect", -1);
    printf("connected\n");
    fflush(stdout);
    say("read", read(fd, buffer, 1));
    say("connect", reach(host, port));
    return 0;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

/* Exchanges bytes with a server that is told first how many it shall send; says how many seconds it took. */
static int exchange(const char *host, const char *port, uint64_t wanted, long bytes) {
    int fd = reach(host, port);
    if (fd < 0) return say("connect", -1);
    double begun = now();
    if (write(fd, &wanted, sizeof wanted) < 0) return say("write", -1);
    for (long left = bytes; left > 0;) {
        ssize_t sent = write(fd, buffer, left < (long)sizeof buffer ? left : sizeof buffer);
        if (sent < 0) return say("write", -1);
        left -= sent;
    }
    shutdown(fd, SHUT_WR);
    if (drain(fd) != (long)wanted) return say("read", -1);
    printf("%.6f\n", now() - begun);
    return 0;
}

/* Sends and ends at once, without a look back. */
static int throw(const char *host, const char *port, long bytes) {
    int fd = reach(host, port);
    if (fd < 0) return say("connect", -1);
    for (long left = bytes; left > 0;) {
        ssize_t sent = write(fd, buffer, left < (long)sizeof buffer ? left : sizeof buffer);
        if (sent < 0) return say("write", -1);
        left -= sent;
    }
    _exit(0);
}

/* A port of its own, which the outside must not reach. */
static int serve(const char *port) {
    struct sockaddr_in at = {AF_INET, htons(atoi(port)), {INADDR_ANY}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (void *)&at, sizeof at) < 0 || listen(fd, 1) < 0) return say("listen", -1);
    printf("listening\n");
    fflush(stdout);
    struct pollfd wait = {fd, POLLIN};
    printf("%d\n", poll(&wait, 1, 1000));
    return 0;
}

int main(int argc, char **argv) {
    const char *act = argc > 1 ? argv[1] : "";
#define ACT(name, count) (!strcmp(act, name) && argc == 2 + (count))
    if (ACT("get", 3)) return get(argv[2], argv[3], argv[4]);
    if (ACT("epoll", 3)) return get_by_epoll(argv[2], argv[3], argv[4]);
    if (ACT("connect", 2)) return say("connect", reach(argv[2], argv[3]));
    if (ACT("try", 3)) return try(argv[2], argv[3], atoi(argv[4]));
    if (ACT("look", 2)) return look(argv[2], argv[3]);
    if (ACT("ways", 2)) return ways(argv[2], argv[3]);
    if (ACT("race", 4)) return race(argv[2], argv[3], argv[4], atoi(argv[5]));
    if (ACT("flood", 3)) return flood(argv[2], argv[3], atoi(argv[4]));
    if (ACT("outlive", 2)) return outlive(argv[2], argv[3]);
    if (ACT("send", 3)) return exchange(argv[2], argv[3], 0, atol(argv[4]));
    if (ACT("receive", 3)) return exchange(argv[2], argv[3], atol(argv[4]), 0);
    if (ACT("throw", 3)) return throw(argv[2], argv[3], atol(argv[4]));
    if (ACT("serve", 1)) return serve(argv[2]);
    fprintf(stderr, "unknown act\n");
    return 2;
}
