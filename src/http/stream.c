/*
 * A stream of server-sent events.
 *
 * Two references: the owner's, who sends, and the server's, which belongs to the response and then to the connection.
 * What is sent goes to `pending` under the lock; one posted call at a time carries it over into the connection's
 * output, whose own callback tells what the peer has taken. `queued` is both together, and what the ceiling is for.
 */
#include "http/stream.h"

#include "common/heap.h"
#include "http/internal.h"

#include <pthread.h>
#include <string.h>

struct HttpStream {
    Loop *loop;
    HttpStreamClosed on_closed;
    void *context;
    HttpConn *conn; /* of the loop's thread: NULL before and after */
    pthread_mutex_t lock;
    /* Under the lock: */
    unsigned refs;
    Buf pending;
    size_t queued, max;
    bool posted;  /* a flush is on its way */
    bool ending;  /* nothing more is sent */
    bool overrun; /* the peer is too slow */
    bool closed;
};

HttpStream *http_response_stream(HttpResponse *response, HttpStreamClosed on_closed, void *context) {
    HttpStream *stream = heap_new_of(HttpStream);

    stream->loop = response->loop;
    stream->on_closed = on_closed;
    stream->context = context;
    stream->max = response->stream_bytes;
    stream->refs = 2;
    pthread_mutex_init(&stream->lock, NULL);
    buf_init(&stream->pending, SIZE_MAX); /* the ceiling is for `queued` */
    if (response->stream != NULL) {       /* two for one response: the first has nowhere to go */
        response->broken = true;
        stream_detach(response->stream, HTTP_STREAM_ENDED);
    }
    response->stream = stream;
    return stream;
}

/* Takes the lock, which its caller has not. */
static void unref(HttpStream *stream) {
    pthread_mutex_lock(&stream->lock);
    bool last = --stream->refs == 0;
    pthread_mutex_unlock(&stream->lock);
    if (!last)
        return;
    buf_fini(&stream->pending);
    pthread_mutex_destroy(&stream->lock);
    heap_free(stream);
}

/* --- on the loop's thread --- */

/* What the peer has taken. */
static void on_output(struct evbuffer *output, const struct evbuffer_cb_info *info, void *context) {
    HttpStream *stream = context;
    (void)output;

    pthread_mutex_lock(&stream->lock);
    stream->queued -= MIN(info->n_deleted, stream->queued);
    pthread_mutex_unlock(&stream->lock);
}

static void flush(void *context) {
    HttpStream *stream = context;
    HttpConn *conn = stream->conn;

    pthread_mutex_lock(&stream->lock);
    stream->posted = false;
    bool overrun = stream->overrun, ending = stream->ending;
    Buf taken = stream->pending;
    if (conn != NULL)
        buf_init(&stream->pending, SIZE_MAX);
    pthread_mutex_unlock(&stream->lock);
    if (conn != NULL) {
        /* Without the lock: adding calls on_output(). */
        if (!overrun)
            evbuffer_add(bufferevent_get_output(conn->bev), taken.data, taken.len);
        conn->server->counters.bytes_out += overrun ? 0 : taken.len;
        buf_fini(&taken);
        if (overrun)
            conn->server->counters.streams_slow++;
        if (overrun)
            conn_close(conn, HTTP_STREAM_SLOW);
        else if (ending)
            conn_end_stream(conn, HTTP_STREAM_ENDED);
    }
    unref(stream);
}

/* Under the lock. */
static void post_flush(HttpStream *stream) {
    if (stream->posted || stream->closed)
        return;
    stream->posted = true;
    stream->refs++;
    loop_post(stream->loop, flush, stream);
}

void stream_attach(HttpStream *stream, HttpConn *conn) {
    struct evbuffer *output = bufferevent_get_output(conn->bev);

    conn->stream = stream;
    conn->server->streams++;
    conn->server->counters.streams_open++;
    stream->conn = conn;
    evbuffer_add_cb(output, on_output, stream);
    pthread_mutex_lock(&stream->lock);
    stream->queued += evbuffer_get_length(output); /* on_output() will take the head away too */
    post_flush(stream);
    pthread_mutex_unlock(&stream->lock);
}

void stream_heartbeat(HttpStream *stream) {
    static const char comment[] = ":\n\n";

    pthread_mutex_lock(&stream->lock);
    bool idle = stream->queued == 0;
    if (idle)
        stream->queued += sizeof(comment) - 1;
    pthread_mutex_unlock(&stream->lock);
    if (idle) /* else there is something else to see whether the peer takes it */
        evbuffer_add(bufferevent_get_output(stream->conn->bev), comment, sizeof(comment) - 1);
}

void stream_detach(HttpStream *stream, HttpStreamEnd why) {
    if (stream->conn != NULL)
        evbuffer_remove_cb(bufferevent_get_output(stream->conn->bev), on_output, stream);
    stream->conn = NULL;
    pthread_mutex_lock(&stream->lock);
    stream->closed = true;
    pthread_mutex_unlock(&stream->lock);
    if (stream->on_closed != NULL)
        stream->on_closed(stream->context, why);
    unref(stream);
}

/* --- from any thread --- */

/* A line of an event: "id: 7". */
static void add_field(Buf *event, const char *name, const char *value, size_t len) {
    buf_append_str(event, name);
    buf_append_str(event, ": ");
    buf_append(event, value, len);
    buf_append_char(event, '\n');
}

static void format(Buf *event, const char *id, const char *type, const char *data) {
    if (id != NULL)
        add_field(event, "id", id, strcspn(id, "\r\n"));
    if (type != NULL)
        add_field(event, "event", type, strcspn(type, "\r\n"));
    for (bool more = true; more;) {
        size_t len = strcspn(data, "\r\n");
        add_field(event, "data", data, len);
        more = data[len] != '\0';
        data += len + (strncmp(data + len, "\r\n", 2) == 0 ? 2 : 1);
    }
    buf_append_char(event, '\n');
}

bool http_stream_send(HttpStream *stream, const char *id, const char *event, const char *data) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, SIZE_MAX);
    format(&text, id, event, data);
    pthread_mutex_lock(&stream->lock);
    bool open = !stream->closed && !stream->ending;
    if (open && text.len > stream->max - MIN(stream->queued, stream->max)) {
        stream->overrun = stream->ending = true;
        open = false;
        post_flush(stream);
    }
    if (open) {
        buf_append(&stream->pending, text.data, text.len);
        stream->queued += text.len;
        post_flush(stream);
    }
    pthread_mutex_unlock(&stream->lock);
    return open;
}

void http_stream_end(HttpStream *stream) {
    pthread_mutex_lock(&stream->lock);
    stream->ending = true;
    post_flush(stream);
    pthread_mutex_unlock(&stream->lock);
}

bool http_stream_closed(HttpStream *stream) {
    pthread_mutex_lock(&stream->lock);
    bool closed = stream->closed;
    pthread_mutex_unlock(&stream->lock);
    return closed;
}

void http_stream_releasep(HttpStream **stream) {
    if (*stream == NULL)
        return;
    http_stream_end(*stream);
    unref(*stream);
    *stream = NULL;
}
