// A worker for graflow-sidecar in C11 and POSIX, with nothing else.
//
//   cc -O2 -o worker docs/workers/worker.c
//   sidecar run -- ./worker
//   sidecar worker test -- ./worker
//
// It counts words, of a text or of a file, and waits, one task at a time:
//
//   {"task_id": "words_1", "session_id": "s", "params": {"text": "to be or not to be"}}
//   {"task_id": "wait_1", "session_id": "s", "params": {"seconds": 2}}
//
// A task runs in a forked child, which writes its result into a pipe; so the
// parent never stops listening. JSON is not parsed but skipped through: find()
// gives the text of a member of an object. The rules (P1, P2 …) are those of
// protocol/PROTOCOL.md.
#define _POSIX_C_SOURCE 200809L
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// JSON. What the sidecar sends is valid, so that only its structure matters.

static const char *space(const char *p) { return p + strspn(p, " \t"); }

static const char *skip(const char *p) { // past one value, without recursion (P12)
    int depth = 0;
    do {
        p = space(p);
        if (*p == '"') {
            for (p++; *p && *p != '"'; p++)
                if (*p == '\\' && p[1]) p++;
            if (*p) p++;
        } else if (*p == '{' || *p == '[') {
            depth++, p++;
        } else if (*p == '}' || *p == ']') {
            depth--, p++;
        } else if (*p == ',' || *p == ':') {
            p++;
        } else {
            p += strcspn(p, ",:]} \t");
        }
        p = space(p);
    } while (depth > 0 && *p);
    return p;
}

static const char *find(const char *object, const char *name) { // a member's value, or ""
    if (*object != '{') return "";
    for (const char *p = space(object + 1); *p == '"';) {
        const char *value = space(space(skip(p)) + 1); // past the colon
        if (!strncmp(p + 1, name, strlen(name)) && p[1 + strlen(name)] == '"') return value;
        p = space(skip(value));
        if (*p == ',') p = space(p + 1);
    }
    return "";
}

static char *text(const char *p) { // a string, decoded but for \u, which stays; or NULL
    if (*p != '"') return NULL;
    char *out = malloc(strlen(p)), *to = out;
    for (p++; *p && *p != '"'; p++) {
        const char *escape = *p == '\\' && p[1] ? strchr("b\bf\fn\nr\rt\t", p[1]) : NULL;
        if (escape && islower((unsigned char)*escape)) *to++ = escape[1], p++;
        else if (*p == '\\' && p[1] && p[1] != 'u') *to++ = *++p;
        else *to++ = *p;
    }
    *to = 0;
    return out;
}

static bool is(const char *p, const char *name) { // is this value that string?
    return *p == '"' && !strncmp(p + 1, name, strlen(name)) && p[1 + strlen(name)] == '"';
}

// State, and answers. An id comes first in a message (P11).

struct task { long long id; char *record; struct task *next; };
static struct task *queue;
static struct { long long id; pid_t pid; int pipe; bool cancelled; size_t size; char result[512]; } running;
static bool draining, stopping;
static size_t limit = 16 << 20;
static FILE *out;

static void fail(long long id, int code, const char *message) {
    fprintf(out, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"error\":{\"code\":%d,\"message\":\"%s\"}}\n", id, code, message);
}

// Tasks, in the child.

static void failed(const char *message, bool retryable) {
    printf("{\"status\":\"failed\",\"error\":{\"message\":\"%s\",\"retryable\":%s}}", message, retryable ? "true" : "false");
}

static void words(const char *params) {
    char *of = text(find(params, "text")), *path = text(find(params, "path"));
    FILE *in = of && *of ? fmemopen(of, strlen(of), "r") : path ? fopen(path, "r") : NULL;
    if (!in && (path || !of)) {
        failed(path ? "the file cannot be read" : "params.text or params.path is wanted", path && errno == ENOENT);
        return;
    }
    long count = 0;
    for (int c, before = ' '; in && (c = getc(in)) != EOF; before = c)
        count += !isspace(c) && isspace(before);
    printf("{\"status\":\"succeeded\",\"value\":{\"words\":%ld}}", count);
}

static void await(const char *params) {
    const char *given = find(params, "seconds");
    double seconds = *given ? atof(given) : 1;
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
    printf("{\"status\":\"succeeded\",\"value\":{\"waited\":%g}}", seconds);
}

static void work(const char *record) {
    const char *id = find(record, "task_id"), *params = find(record, "params");
    if (!strncmp(id, "\"words", 6)) words(params);
    else if (!strncmp(id, "\"wait", 5)) await(params);
    else failed("unknown task: this worker does words and wait", false);
}

static void start(void) { // the next task, or leave if that is wanted
    if (running.pid) return;
    if (!queue) {
        if (stopping) exit(0); // stdin is still open (P37)
        return;
    }
    struct task *task = queue;
    queue = task->next;
    int ends[2];
    if (pipe(ends)) exit(70);
    running.id = task->id, running.pipe = ends[0], running.size = 0, running.cancelled = false;
    if (!(running.pid = fork())) {
        signal(SIGTERM, SIG_IGN), signal(SIGINT, SIG_IGN); // a stop of the whole group does not cut it short (P40)
        dup2(open("/dev/null", O_RDONLY), 0);
        dup2(ends[1], 1);
        close(fileno(out));
        work(task->record);
        fflush(stdout);
        _exit(0);
    }
    if (running.pid < 0) exit(70);
    close(ends[1]);
    free(task->record), free(task);
}

static void ended(void) { // the running task's pipe has ended
    waitpid(running.pid, NULL, 0);
    close(running.pipe);
    running.pid = 0;
    running.result[running.size] = 0;
    if (running.cancelled) fail(running.id, -32800, "cancelled");
    else
        fprintf(out, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"result\":%s}\n", running.id,
                running.size ? running.result : "{\"status\":\"failed\",\"error\":{\"message\":\"the task died\"}}");
    start();
}

static void hand_back(void) {
    for (; queue; queue = queue->next) fail(queue->id, -32001, "not started: the worker is stopping");
}

static void drain(void) { // a signal of our own: finish what runs, and wait for shutdown (P40)
    if (!draining) fputs("{\"jsonrpc\":\"2.0\",\"method\":\"$/draining\"}\n", out);
    draining = true;
    hand_back();
}

static void cancel(long long id) {
    if (running.pid && running.id == id) running.cancelled = !kill(running.pid, SIGKILL);
    for (struct task **at = &queue; *at; at = &(*at)->next)
        if ((*at)->id == id) {
            fail(id, -32800, "cancelled");
            *at = (*at)->next;
            return;
        }
}

static void take(const char *line) {
    line = space(line);
    const char *method = find(line, "method"), *given = find(line, "id"), *params = find(line, "params");
    long long id = atoll(given);
    if (is(method, "initialize")) {
        if (atoi(find(params, "protocolVersion")) < 1) {
            fail(id, -32602, "this worker speaks version 1");
            return;
        }
        limit = strtoul(find(find(params, "limits"), "maxMessageBytes"), NULL, 10);
        fprintf(out, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"result\":{\"protocolVersion\":1,"
                     "\"worker\":{\"name\":\"words-in-c\",\"version\":\"1.0\"},\"concurrency\":1,\"capabilities\":{}}}\n", id);
    } else if (is(method, "ping")) {
        fprintf(out, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"result\":{}}\n", id);
    } else if (is(method, "task/run") && (draining || stopping)) {
        fail(id, -32001, "not started: the worker is stopping");
    } else if (is(method, "task/run")) {
        struct task *task = malloc(sizeof *task), **last = &queue;
        const char *record = find(params, "record");
        *task = (struct task){id, strndup(record, (size_t)(skip(record) - record)), NULL};
        while (*last) last = &(*last)->next;
        *last = task;
        start();
    } else if (is(method, "$/cancelRequest")) {
        cancel(atoll(find(params, "id")));
    } else if (is(method, "shutdown")) {
        stopping = true;
        hand_back();
        start();
    } else if (*method && *given) {
        fail(id, -32601, "no such method");
    }
}

static int wake[2]; // a signal's way into poll

static void on_signal(int number) {
    char c = (char)number;
    if (write(wake[1], &c, 1) < 0) return; // full: there is a wake-up in it already
}

static void listen_to(int fd) { // lines of at most limit bytes (P4)
    static char *buffer;
    static size_t size, room;
    static bool skipping;
    if (room - size < 65537) buffer = realloc(buffer, room += size + 65537);
    ssize_t n = read(fd, buffer + size, 65536);
    if (n <= 0) {
        if (n < 0 && errno == EINTR) return;
        if (running.pid) kill(running.pid, SIGKILL);
        exit(1); // the sidecar is gone (P38)
    }
    char *line = buffer, *from = buffer + size, *end;
    size += (size_t)n;
    while ((end = memchr(from, '\n', (size_t)(buffer + size - from)))) {
        char *next = end + 1;
        if (end > line && end[-1] == '\r') end--;
        *end = 0;
        if (!skipping && (size_t)(end - line) <= limit) take(line);
        skipping = false;
        line = from = next;
    }
    size -= (size_t)(line - buffer);
    if (size > limit + 1) size = 0, skipping = true;
    memmove(buffer, line, size);
}

int main(void) {
    out = fdopen(dup(1), "w"); // stdout belongs to the protocol: prints are log lines (P14)
    dup2(2, 1);
    if (!out || pipe(wake)) return 70;
    fcntl(fileno(out), F_SETFD, FD_CLOEXEC);
    fcntl(wake[1], F_SETFL, O_NONBLOCK);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL), sigaction(SIGINT, &action, NULL);
    for (;;) {
        fflush(out); // nothing more to say for now (P8)
        struct pollfd fds[] = {{0, POLLIN, 0}, {wake[0], POLLIN, 0}, {running.pid ? running.pipe : -1, POLLIN, 0}};
        if (poll(fds, 3, -1) < 0) continue;
        if (fds[1].revents && read(wake[0], &(char[64]){0}, 64) > 0) drain();
        if (fds[2].revents) {
            ssize_t n = read(running.pipe, running.result + running.size, sizeof running.result - 1 - running.size);
            if (n <= 0) ended();
            else running.size += (size_t)n;
        }
        if (fds[0].revents) listen_to(0);
    }
}
