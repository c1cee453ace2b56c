/*
 * The event loop of the service, over libevent.
 *
 * libevent is never told of threads: other threads touch only the list of posted calls, under its lock, and two
 * eventfds. So no base or buffer of libevent carries a lock.
 */
#include "common/loop.h"

#include "common/clock.h"
#include "common/fd.h"
#include "common/heap.h"
#include "common/stop.h"

#include <event2/event.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct Posted Posted;
struct Posted {
    Posted *next;
    LoopCallback callback;
    void *context;
};

struct Loop {
    struct event_base *base;
    Stop quit;
    int wake_fd;
    LoopWatch *quit_watch, *wake_watch;
    pthread_mutex_t lock;
    /* Under the lock: */
    Posted *first, *last;
};

struct LoopTimer {
    struct event *event;
    LoopCallback callback;
    void *context;
};

struct LoopWatch {
    struct event *event;
    LoopFdCallback callback;
    void *context;
};

struct event_base *loop_base(Loop *loop) {
    return loop->base;
}

/* --- timers --- */

static void on_timer(evutil_socket_t fd, short events, void *context) {
    const LoopTimer *timer = context;
    (void)fd;
    (void)events;
    timer->callback(timer->context);
}

static LoopTimer *timer_new(Loop *loop, int64_t us, short flags, LoopCallback callback, void *context) {
    LoopTimer *timer = heap_new_of(LoopTimer);
    struct timeval after = {.tv_sec = us / USEC_PER_SEC, .tv_usec = us % USEC_PER_SEC};

    *timer = (LoopTimer){event_new(loop->base, -1, flags, on_timer, timer), callback, context};
    event_add(timer->event, &after);
    return timer;
}

LoopTimer *loop_every(Loop *loop, int64_t us, LoopCallback callback, void *context) {
    return timer_new(loop, us, EV_PERSIST, callback, context);
}

LoopTimer *loop_after(Loop *loop, int64_t us, LoopCallback callback, void *context) {
    return timer_new(loop, us, 0, callback, context);
}

void loop_timer_freep(LoopTimer **timer) {
    if (*timer == NULL)
        return;
    event_free((*timer)->event);
    heap_free(*timer);
    *timer = NULL;
}

/* --- descriptors --- */

static void on_fd(evutil_socket_t fd, short events, void *context) {
    const LoopWatch *watch = context;
    short polled = (short)(((events & EV_READ) ? POLLIN : 0) | ((events & EV_WRITE) ? POLLOUT : 0));

    watch->callback(watch->context, fd, polled);
}

LoopWatch *loop_watch(Loop *loop, int fd, short events, LoopFdCallback callback, void *context) {
    LoopWatch *watch = heap_new_of(LoopWatch);
    short wanted = (short)(((events & POLLIN) ? EV_READ : 0) | ((events & POLLOUT) ? EV_WRITE : 0) | EV_PERSIST);

    *watch = (LoopWatch){event_new(loop->base, fd, wanted, on_fd, watch), callback, context};
    event_add(watch->event, NULL);
    return watch;
}

void loop_watch_freep(LoopWatch **watch) {
    if (*watch == NULL)
        return;
    event_free((*watch)->event);
    heap_free(*watch);
    *watch = NULL;
}

/* --- calls from other threads --- */

void loop_post(Loop *loop, LoopCallback callback, void *context) {
    Posted *posted = heap_new_of(Posted);
    uint64_t one = 1;

    *posted = (Posted){.callback = callback, .context = context};
    pthread_mutex_lock(&loop->lock);
    if (loop->last == NULL)
        loop->first = posted;
    else
        loop->last->next = posted;
    loop->last = posted;
    /* Under the lock: whoever empties the list may free the loop's owner next. The counter cannot be full. */
    ssize_t written = write(loop->wake_fd, &one, sizeof(one));
    (void)written;
    pthread_mutex_unlock(&loop->lock);
}

void loop_run_posted(Loop *loop) {
    pthread_mutex_lock(&loop->lock);
    Posted *next = loop->first;
    loop->first = loop->last = NULL;
    pthread_mutex_unlock(&loop->lock);
    while (next != NULL) {
        Posted posted = *next;
        heap_free(next);
        next = posted.next;
        posted.callback(posted.context);
    }
}

static void on_wake(void *context, int fd, short events) {
    uint64_t count;
    (void)events;

    ssize_t got = read(fd, &count, sizeof(count)); /* before the list is taken: a later post wakes again */
    (void)got;
    loop_run_posted(context);
}

/* --- the loop --- */

static void on_quit(void *context, int fd, short events) {
    Loop *loop = context;
    (void)fd;
    (void)events;
    event_base_loopbreak(loop->base);
}

static bool setup(Loop *loop, Error *err) {
    struct event_config *config = event_config_new();

    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    loop->base = event_base_new_with_config(config);
    event_config_free(config);
    if (loop->base == NULL)
        return error_errno(err, REASON_SYSTEM, "cannot make an event loop");
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0)
        return error_errno(err, REASON_SYSTEM, "cannot make an eventfd");
    loop->quit_watch = loop_watch(loop, loop->quit.event_fd, POLLIN, on_quit, loop);
    loop->wake_watch = loop_watch(loop, loop->wake_fd, POLLIN, on_wake, loop);
    return true;
}

bool loop_new(Loop **ret_loop, Error *err) {
    Stop quit;
    if (!stop_init(&quit, err))
        return false;
    Loop *loop = heap_new_of(Loop);
    loop->quit = quit;
    loop->wake_fd = -1;
    pthread_mutex_init(&loop->lock, NULL);
    if (!setup(loop, err)) {
        loop_freep(&loop);
        return false;
    }
    *ret_loop = loop;
    return true;
}

void loop_freep(Loop **loop) {
    Loop *gone = *loop;
    if (gone == NULL)
        return;
    loop_run_posted(gone);
    loop_watch_freep(&gone->quit_watch);
    loop_watch_freep(&gone->wake_watch);
    if (gone->base != NULL)
        event_base_free(gone->base);
    fd_close(&gone->wake_fd);
    stop_fini(&gone->quit);
    pthread_mutex_destroy(&gone->lock);
    heap_free(gone);
    *loop = NULL;
}

bool loop_run(Loop *loop, Error *err) {
    while (!stop_requested(&loop->quit)) {
        if (event_base_loop(loop->base, 0) < 0)
            return error_errno(err, REASON_SYSTEM, "the event loop failed");
    }
    return true;
}

void loop_step(Loop *loop) {
    event_base_loop(loop->base, EVLOOP_NONBLOCK);
}

void loop_quit(Loop *loop) {
    stop_request(&loop->quit);
}
