/* The limit: the TLS servers of servers.py without Python. One thread, epoll, OpenSSL on the socket; prints the ports of
 * the three: echo, sink (eight bytes with a count, so many bytes, one byte in answer), source (a count, answered by so
 * many bytes).
 *
 *   reference CERTIFICATE KEY */
#define _GNU_SOURCE
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
#include <unistd.h>

enum { ROOM = 1 << 17, PIECE = 1 << 16 };
enum kind { ECHO, SINK, SOURCE, KINDS };

struct connection {
    SSL *ssl;
    int fd, established;
    enum kind kind;
    size_t filled, sent;
    /* Sink and source: bytes of the head that are there, its value, what is left of it. */
    size_t head_bytes;
    uint64_t head, left;
};

struct listener {
    int fd;
    enum kind kind;
};

/* Sinks read into it, sources send it; an echo has memory of its own behind its connection. */
static char data[ROOM];

static void end(struct connection *it) {
    SSL_shutdown(it->ssl);
    SSL_free(it->ssl);
    close(it->fd);
    free(it);
}

static int blocked(struct connection *it, int result) {
    int error = SSL_get_error(it->ssl, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

static void accept_one(SSL_CTX *context, const struct listener *from, int poll) {
    int on = 1, fd = accept4(from->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *it = calloc(1, sizeof *it + (from->kind == ECHO ? ROOM : 0));
    it->fd = fd;
    it->kind = from->kind;
    it->ssl = SSL_new(context);
    SSL_set_fd(it->ssl, fd);
    SSL_set_accept_state(it->ssl);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = it};
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

/* What the last operation of OpenSSL's returned. */
static int serve_echo(struct connection *it) {
    char *own = (char *)(it + 1);
    int result = 1;
    for (;;) {
        if (it->sent == it->filled) {
            it->sent = it->filled = 0;
            while (it->filled < ROOM && (result = SSL_read(it->ssl, own + it->filled, (int)(ROOM - it->filled))) > 0)
                it->filled += (size_t)result;
            if (it->filled == 0) return result;
        }
        while (it->sent < it->filled && (result = SSL_write(it->ssl, own + it->sent, (int)(it->filled - it->sent))) > 0)
            it->sent += (size_t)result;
        if (it->sent < it->filled) return result;
    }
}

static int read_head(struct connection *it) {
    int result = 1;
    while (it->head_bytes < sizeof it->head && result > 0) {
        result = SSL_read(it->ssl, (char *)&it->head + it->head_bytes, (int)(sizeof it->head - it->head_bytes));
        if (result > 0) it->head_bytes += (size_t)result;
        if (it->head_bytes == sizeof it->head) it->left = be64toh(it->head);
    }
    return result;
}

static int serve_sink(struct connection *it) {
    int result = 1;
    while (it->left && (result = SSL_read(it->ssl, data, ROOM)) > 0)
        it->left -= (uint64_t)result < it->left ? (uint64_t)result : it->left;
    if (it->left == 0 && it->head_bytes) {
        it->head_bytes = 0;
        result = SSL_write(it->ssl, "k", 1);
    }
    return result;
}

static int serve_source(struct connection *it) {
    int result = 1;
    while (it->left && (result = SSL_write(it->ssl, data, (int)(it->left < PIECE ? it->left : PIECE))) > 0)
        it->left -= (uint64_t)result;
    if (it->left == 0) it->head_bytes = 0;
    return result;
}

static void serve(struct connection *it) {
    int result = 1;
    if (!it->established && (result = SSL_do_handshake(it->ssl)) == 1) it->established = 1;
    if (it->established) {
        if (it->kind == ECHO) {
            result = serve_echo(it);
        } else {
            while (result > 0 && (result = read_head(it)) > 0)
                result = it->kind == SINK ? serve_sink(it) : serve_source(it);
        }
    }
    if (!blocked(it, result)) end(it);
}

static struct listener listen_for(enum kind kind) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    struct listener it = {socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), kind};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(it.fd, (struct sockaddr *)&address, sizeof address) || listen(it.fd, 512) ||
        getsockname(it.fd, (struct sockaddr *)&address, &length)) {
        perror("listen");
        exit(1);
    }
    printf("%d ", ntohs(address.sin_port));
    return it;
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (count != 3 || SSL_CTX_use_certificate_chain_file(context, words[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, words[2], SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "usage: reference CERTIFICATE KEY\n");
        return 2;
    }
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, 1 << 16);
    int poll = epoll_create1(0);
    struct listener listeners[KINDS];
    struct epoll_event events[256];
    for (int i = 0; i < KINDS; i++) {
        listeners[i] = listen_for((enum kind)i);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listeners[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, listeners[i].fd, &event);
    }
    printf("\n");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            struct listener *from = events[i].data.ptr;
            if (from >= listeners && from < listeners + KINDS)
                accept_one(context, from, poll);
            else
                serve(events[i].data.ptr);
        }
    }
}
