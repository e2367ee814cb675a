/* TLS load for the servers of run.py, on loopback: prints how much was done, and how much of that per second.
 *
 *   load PORT echo CONNECTIONS SIZE SECONDS     each connection has one request of SIZE bytes under way
 *   load PORT full|resumed SECONDS              one connection after the other: handshake, one byte, goodbye
 *   load PORT send|receive BYTES                one connection, one way: BYTES as eight bytes, then the stream
 *   load PORT idle CONNECTIONS                  opens them, one echo each, prints the number, waits for the end of stdin
 *
 * With its connections made (of handshakes: the first ones) it prints "ready" and waits for a line: they are no part of
 * what is measured. One thread. Certificates are not verified: it is about the server. What comes back is compared. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Handshakes that are not counted: servers import and make what all connections need with the first. */
enum { ROOM = 1 << 18, WARM_UP = 10 };

struct connection {
    SSL *ssl;
    int fd;
    size_t sent, received;
};

static char answer[ROOM];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void report(long count, double start) { printf("%ld %.0f\n", count, (double)count / (now() - start)); }

static void ready(void) {
    puts("ready");
    fflush(stdout);
    for (int c = 0; c != '\n' && c != EOF; c = getchar()) continue;
}

static SSL *connect_to(SSL_CTX *context, int port, SSL_SESSION *session) {
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    if (session) SSL_set_session(ssl, session);
    if (SSL_connect(ssl) != 1) fail("SSL_connect");
    return ssl;
}

static void read_ahead(SSL_CTX *context) {
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, 1 << 16);
}

static void handshakes(SSL_CTX *context, int port, int resume, double seconds) {
    SSL_SESSION *session = NULL;
    double start = 0;
    long count;
    for (count = -WARM_UP; count <= 0 || now() - start < seconds; count++) {
        char byte = 'x';
        if (count == 0) {
            ready();
            start = now();
        }
        SSL *ssl = connect_to(context, port, session);
        if (session && !SSL_session_reused(ssl)) fail("the session was not resumed");
        if (SSL_write(ssl, &byte, 1) != 1 || SSL_read(ssl, &byte, 1) != 1) fail("echo");
        if (resume) {
            if (session) SSL_SESSION_free(session);
            session = SSL_get1_session(ssl); /* a ticket of TLS 1.3 is used once */
        }
        SSL_shutdown(ssl);
        while (SSL_read(ssl, &byte, 1) > 0) continue;
        int fd = SSL_get_fd(ssl);
        SSL_free(ssl);
        close(fd);
    }
    report(count, start);
}

static void one_way(SSL_CTX *context, int port, int send, uint64_t bytes) {
    uint64_t left = bytes, head = htobe64(bytes);
    SSL *ssl = connect_to(context, port, NULL);
    ready();
    double start = now();
    if (SSL_write(ssl, &head, sizeof head) != sizeof head) fail("SSL_write");
    while (left) {
        int piece = left < ROOM ? (int)left : ROOM;
        int count = send ? SSL_write(ssl, answer, piece) : SSL_read(ssl, answer, piece);
        if (count <= 0) fail("the stream ended early");
        left -= (uint64_t)count;
    }
    if (send && SSL_read(ssl, answer, 1) != 1) fail("no answer");
    report((long)bytes, start);
}

static void idle(SSL_CTX *context, int port, int connections) {
    char request[1024];
    memset(request, 'x', sizeof request);
    for (int i = 0; i < connections; i++) {
        SSL *ssl = connect_to(context, port, NULL);
        if (SSL_write(ssl, request, sizeof request) != sizeof request) fail("SSL_write");
        for (size_t count = 0; count < sizeof request;) {
            int read = SSL_read(ssl, answer, sizeof answer);
            if (read <= 0) fail("SSL_read");
            count += (size_t)read;
        }
    }
    printf("%d\n", connections);
    fflush(stdout);
    while (getchar() != EOF) continue;
}

static void send_more(int poll, struct connection *it, const char *data, size_t size, int was_blocked) {
    while (it->sent < size) {
        int count = SSL_write(it->ssl, data + it->sent, (int)(size - it->sent));
        if (count <= 0) break;
        it->sent += (size_t)count;
    }
    int blocked = it->sent < size;
    if (blocked != was_blocked) {
        struct epoll_event event = {.events = EPOLLIN | (blocked ? EPOLLOUT : 0), .data.ptr = it};
        epoll_ctl(poll, EPOLL_CTL_MOD, it->fd, &event);
    }
}

static void echo(SSL_CTX *context, int port, int connections, size_t size, double seconds) {
    char *request = malloc(size);
    struct connection *all = calloc((size_t)connections, sizeof *all);
    struct epoll_event events[256];
    int poll = epoll_create1(0);
    for (size_t i = 0; i < size; i++) request[i] = (char)(i * 31 >> 3);
    for (int i = 0; i < connections; i++) {
        all[i].ssl = connect_to(context, port, NULL);
        all[i].fd = SSL_get_fd(all[i].ssl);
        fcntl(all[i].fd, F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event);
    }
    ready();
    long answers = 0;
    double start = now();
    for (int i = 0; i < connections; i++) send_more(poll, &all[i], request, size, 0);
    while (now() - start < seconds) {
        int ready = epoll_wait(poll, events, 256, 100);
        for (int i = 0; i < ready; i++) {
            struct connection *it = events[i].data.ptr;
            int was_blocked = it->sent < size;
            for (;;) {
                int count = SSL_read(it->ssl, answer, sizeof answer);
                if (count <= 0) {
                    if (SSL_get_error(it->ssl, count) != SSL_ERROR_WANT_READ) fail("SSL_read");
                    break;
                }
                if (it->received + (size_t)count > size || memcmp(request + it->received, answer, (size_t)count))
                    fail("the answer differs");
                it->received += (size_t)count;
                if (it->received == size) {
                    answers++;
                    it->received = it->sent = 0;
                    break;
                }
            }
            send_more(poll, it, request, size, was_blocked);
        }
    }
    report(answers, start);
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT);
    int port = count > 2 ? atoi(words[1]) : 0;
    const char *what = count > 2 ? words[2] : "";
    if (count == 6 && !strcmp(what, "echo")) {
        read_ahead(context);
        echo(context, port, atoi(words[3]), (size_t)atol(words[4]), atof(words[5]));
    } else if (count == 4 && (!strcmp(what, "full") || !strcmp(what, "resumed"))) {
        handshakes(context, port, !strcmp(what, "resumed"), atof(words[3]));
    } else if (count == 4 && (!strcmp(what, "send") || !strcmp(what, "receive"))) {
        read_ahead(context);
        one_way(context, port, !strcmp(what, "send"), strtoull(words[3], NULL, 10));
    } else if (count == 4 && !strcmp(what, "idle")) {
        idle(context, port, atoi(words[3]));
    } else {
        fprintf(stderr, "usage: see the head of load.c\n");
        return 2;
    }
    return 0;
}
