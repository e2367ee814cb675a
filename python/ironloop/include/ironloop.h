/* ironloop.h: posting to an ironloop event loop from C, C++ or Rust, from any thread, without the GIL.
 *
 * A thread that has finished something (a database driver's, a GPU's, a tokio worker) posts a function and a pointer. The
 * loop's thread calls the function, attached to the interpreter, within its next turn. The loop is woken once for many
 * posts: as long as it has not begun with what was posted before, a post is a push into a queue and no system call.
 *
 *     static const ironloop_completion_api *api;
 *     api = PyCapsule_Import(IRONLOOP_COMPLETION_API, 0);             // attached, once; NULL: an exception is set
 *     if (api != NULL && api->version < 1) { ... }                    // too old
 *     ironloop_queue *queue = api->acquire(running_loop);             // attached
 *     ...
 *     if (api->post(queue, finish, drop, job) < 0) drop_detached(job);   // any thread, attached or not
 *     ...
 *     api->release(queue);                                            // any thread, attached or not
 *
 * The header is of version 1 and needs nothing but Python.h, which is to be included before it.
 */
#ifndef IRONLOOP_H
#define IRONLOOP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IRONLOOP_COMPLETION_API "ironloop._native.completion_api"

/* The queue of a loop. It stays valid until it is released, longer than the loop if need be, and keeps no loop alive. In a
 * forked child the same pointer is a queue of the child's own, which begins with what had been posted before. */
typedef struct ironloop_queue ironloop_queue;

/* Called by the loop's thread, attached. 0, or -1 with an exception set, which goes to the loop's exception handler; what
 * was posted later runs all the same. */
typedef int (*ironloop_run)(void *data);

/* Called instead of `run`, attached, when the loop is closed first. At the end of the interpreter, or for a loop that is
 * neither run nor closed, neither may be called. */
typedef void (*ironloop_discard)(void *data);

typedef struct {
    uint32_t version; /* 1. A later one has further members; none is changed or removed. */
    uint32_t size;    /* of this struct, in bytes */

    /* The queue of `event_loop`, a new reference. Call it attached, in the loop's thread, or in any while it does not run.
     * NULL with an exception set: TypeError if it is no ironloop loop, RuntimeError if it is closed, OSError if there is no
     * descriptor left. */
    ironloop_queue *(*acquire)(PyObject *event_loop);

    /* Another reference to the same. Any thread. */
    ironloop_queue *(*share)(ironloop_queue *queue);

    /* Any thread, attached or not; does not wait for the interpreter. Posts of one thread run in their order. `discard`
     * may be NULL. -1: the loop is closed; nothing will be called, and `data` is still the caller's. */
    int (*post)(ironloop_queue *queue, ironloop_run run, ironloop_discard discard, void *data);

    /* Gives a reference back. Any thread; what has been posted still runs. */
    void (*release)(ironloop_queue *queue);
} ironloop_completion_api;

#ifdef __cplusplus
}
#endif

#endif
