/*
 * TLS for accepted connections. libevent drives OpenSSL; here it is only set up.
 *
 * What an idle connection costs is looked after: no session cache, and buffers are given back while nothing is read.
 */
#include "http/internal.h"

#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

static bool tls_error(Error *err, const char *what, const char *path) {
    unsigned long code = ERR_get_error();
    const char *reason = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);

    ERR_clear_error();
    error_set(err, REASON_USAGE, "cannot use %s %s: %s", what, path, reason == NULL ? "unknown cause" : reason);
    return error_remedy(err, "give a readable file in PEM; certificate and key have to belong together");
}

static bool load_files(SSL_CTX *tls, const HttpConfig *config, Error *err) {
    if (SSL_CTX_use_certificate_chain_file(tls, config->tls_cert_file) != 1)
        return tls_error(err, "the certificate", config->tls_cert_file);
    if (SSL_CTX_use_PrivateKey_file(tls, config->tls_key_file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(tls) != 1)
        return tls_error(err, "the private key", config->tls_key_file);
    return true;
}

bool tls_setup(HttpServer *server, Error *err) {
    const HttpConfig *config = &server->config;

    if (config->tls_cert_file == NULL && config->tls_key_file == NULL)
        return true;
    if (config->tls_cert_file == NULL || config->tls_key_file == NULL)
        return error_set(err, REASON_USAGE, "TLS needs both a certificate and a private key");
    server->tls = SSL_CTX_new(TLS_server_method());
    if (server->tls == NULL)
        return error_set(err, REASON_SYSTEM, "OpenSSL cannot be set up"); /* uncovered: needs a broken OpenSSL */
    SSL_CTX_set_min_proto_version(server->tls, TLS1_2_VERSION);
    SSL_CTX_set_options(server->tls, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(server->tls, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(server->tls, SSL_SESS_CACHE_OFF);
    return load_files(server->tls, config, err);
}

void tls_fini(HttpServer *server) {
    SSL_CTX_free(server->tls);
    server->tls = NULL;
}

struct bufferevent *tls_bufferevent(HttpServer *server, int fd) {
    SSL *ssl = SSL_new(server->tls);
    if (ssl == NULL)
        return NULL; /* uncovered: needs a full machine */
    struct bufferevent *bev = bufferevent_openssl_socket_new(loop_base(server->loop), fd, ssl,
                                                             BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    if (bev == NULL)
        SSL_free(ssl); /* uncovered: needs a full machine */
    else
        bufferevent_openssl_set_allow_dirty_shutdown(bev, 1); /* HTTP says itself where a message ends */
    return bev;
}

void tls_say_goodbye(struct bufferevent *bev) {
    SSL *ssl = bufferevent_openssl_get_ssl(bev);
    if (ssl != NULL)
        SSL_shutdown(ssl);
    ERR_clear_error(); /* a peer that is gone is no error of the next connection */
}
