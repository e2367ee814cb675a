/* The limit: a TLS echo server without Python. One thread, epoll, OpenSSL on the socket; prints its port.
 *
 *   reference CERTIFICATE KEY */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = 1 << 17 };

struct connection {
    SSL *ssl;
    int fd, established;
    size_t filled, sent;
    char data[ROOM];
};

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

static void accept_one(SSL_CTX *context, int listener, int poll) {
    int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *it = calloc(1, sizeof *it);
    it->fd = fd;
    it->ssl = SSL_new(context);
    SSL_set_fd(it->ssl, fd);
    SSL_set_accept_state(it->ssl);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = it};
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

static void serve(struct connection *it) {
    int result = 1;
    if (!it->established) {
        result = SSL_do_handshake(it->ssl);
        if (result != 1) {
            if (!blocked(it, result)) end(it);
            return;
        }
        it->established = 1;
    }
    for (;;) {
        if (it->sent == it->filled) {
            it->sent = it->filled = 0;
            while (it->filled < ROOM && (result = SSL_read(it->ssl, it->data + it->filled, (int)(ROOM - it->filled))) > 0)
                it->filled += (size_t)result;
            if (it->filled == 0) {
                if (!blocked(it, result)) end(it);
                return;
            }
        }
        while (it->sent < it->filled && (result = SSL_write(it->ssl, it->data + it->sent, (int)(it->filled - it->sent))) > 0)
            it->sent += (size_t)result;
        if (it->sent < it->filled) {
            if (!blocked(it, result)) end(it);
            return;
        }
    }
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (count != 3 || SSL_CTX_use_certificate_chain_file(context, words[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, words[2], SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "usage: reference CERTIFICATE KEY\n");
        return 2;
    }
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, 1 << 16);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 512) ||
        getsockname(listener, (struct sockaddr *)&address, &length)) {
        perror("listen");
        return 1;
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    int poll = epoll_create1(0);
    struct epoll_event events[256], event = {.events = EPOLLIN};
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr)
                serve(events[i].data.ptr);
            else
                accept_one(context, listener, poll);
        }
    }
}
