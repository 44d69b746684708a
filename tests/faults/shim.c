/*
 * Disk faults for a real process: LD_PRELOAD this, and the calls that write to files below one directory are delayed,
 * fail or are silently dropped, as the control file says. tests/faults/disk.py builds it and writes that file.
 *
 * PHXQUEUE_FAULTS       the control file, mapped shared: it can be changed while the process runs
 * PHXQUEUE_FAULTS_UNDO  when set: a log of what every write and truncation replaced, with a mark for every flush that
 *                       really took place; played backwards it takes a dead process' files to what was flushed, which
 *                       is what a power failure may leave
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define RULES 8

enum { WRITE = 1, SYNC = 2, TRUNCATE = 4 };  /* calls, as bits */
enum { DELAY = 1, FAIL = 2, DROP = 3 };      /* what happens to them */
enum { UNDO_WRITE = 1, UNDO_SYNC = 2, UNDO_TRUNCATE = 3 };

/* The layout is repeated in tests/faults/disk.py. */
struct rule {
    uint32_t calls;     /* which calls; 0: the rule is off */
    uint32_t action;
    int32_t error;      /* with FAIL: errno */
    uint32_t delay_us;  /* with any action: waited first */
    int64_t skip;       /* so many matching calls pass first */
    int64_t times;      /* then so many are struck */
    int64_t seen;       /* matching calls so far */
    int64_t struck;     /* calls struck so far */
    char name[64];      /* pattern of the file's name */
};

struct control {
    char magic[8];
    char directory[1016];
    struct rule rules[RULES];
};

struct undo {
    uint32_t kind;
    uint32_t path_length;
    int64_t offset;
    int64_t length;  /* bytes that follow the path: what lay there before */
    int64_t size;    /* of the file before */
};

static struct control *control;
static int undo_fd = -1;
static pthread_mutex_t undo_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void set_up(void)
{
    const char *path = getenv("PHXQUEUE_FAULTS");
    int fd = path == NULL ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd >= 0) {
        void *place = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (place != MAP_FAILED && memcmp(place, "PHXFAULT", 8) == 0)
            control = place;
        syscall(SYS_close, fd);
    }
    path = getenv("PHXQUEUE_FAULTS_UNDO");
    if (path != NULL)
        undo_fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* Whether fd is a regular file below the directory; its path then. */
static int is_ours(int fd, char *path, struct stat *status)
{
    char link[64];
    ssize_t length;
    size_t prefix;

    pthread_once(&once, set_up);
    if (control == NULL || fstat(fd, status) != 0 || !S_ISREG(status->st_mode))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    prefix = strlen(control->directory);
    return strncmp(path, control->directory, prefix) == 0 && path[prefix] == '/';
}

/* Returns 0: do it; -1: fail with errno set; 1: say that it was done. */
static int strike(uint32_t call, const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    int verdict = 0;

    for (int i = 0; i < RULES && verdict == 0; i++) {
        struct rule *rule = &control->rules[i];
        if ((rule->calls & call) == 0 || fnmatch(rule->name, name, 0) != 0)
            continue;
        if (__atomic_fetch_add(&rule->seen, 1, __ATOMIC_SEQ_CST) < rule->skip)
            continue;
        if (__atomic_fetch_add(&rule->struck, 1, __ATOMIC_SEQ_CST) >= rule->times) {
            __atomic_fetch_sub(&rule->struck, 1, __ATOMIC_SEQ_CST);
            continue;
        }
        if (rule->delay_us > 0) {
            struct timespec pause = {rule->delay_us / 1000000, (long)(rule->delay_us % 1000000) * 1000};
            while (nanosleep(&pause, &pause) != 0 && errno == EINTR)
                ;
        }
        if (rule->action == FAIL) {
            errno = rule->error;
            verdict = -1;
        } else if (rule->action == DROP) {
            verdict = 1;
        }
    }
    return verdict;
}

static void put(const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length > 0) {
        ssize_t written = syscall(SYS_write, undo_fd, at, length);
        if (written <= 0)
            _exit(111); /* a test whose undo log is full proves nothing */
        at += written;
        length -= (size_t)written;
    }
}

/* Note what a call is about to replace: length bytes at offset, or everything from offset on when truncating. */
static void note(uint32_t kind, int fd, const char *path, const struct stat *status, off_t offset, size_t length)
{
    struct undo undo = {kind, (uint32_t)strlen(path), offset, 0, status->st_size};
    char *old = NULL;

    if (undo_fd < 0)
        return;
    pthread_mutex_lock(&undo_lock);
    if (kind != UNDO_SYNC && offset < status->st_size && length > 0) {
        if ((off_t)length > status->st_size - offset)
            length = (size_t)(status->st_size - offset);
        old = malloc(length);
        char reading[64];
        snprintf(reading, sizeof reading, "/proc/self/fd/%d", fd); /* fd itself may be open for writing only */
        int other = (int)syscall(SYS_openat, AT_FDCWD, reading, O_RDONLY | O_CLOEXEC, 0);
        ssize_t got = old == NULL || other < 0 ? -1 : syscall(SYS_pread64, other, old, length, offset);
        if (other >= 0)
            syscall(SYS_close, other);
        if (got != (ssize_t)length)
            _exit(112);
        undo.length = got;
    }
    put(&undo, sizeof undo);
    put(path, undo.path_length);
    if (undo.length > 0)
        put(old, (size_t)undo.length);
    free(old);
    pthread_mutex_unlock(&undo_lock);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset)
{
    char path[PATH_MAX];
    struct stat status;
    if (is_ours(fd, path, &status)) {
        int verdict = strike(WRITE, path);
        if (verdict != 0)
            return verdict < 0 ? -1 : (ssize_t)length;
        note(UNDO_WRITE, fd, path, &status, offset, length);
    }
    return syscall(SYS_pwrite64, fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset)
{
    return pwrite64(fd, bytes, length, offset);
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    char path[PATH_MAX];
    struct stat status;
    if (is_ours(fd, path, &status)) {
        int verdict = strike(WRITE, path);
        if (verdict != 0)
            return verdict < 0 ? -1 : (ssize_t)length;
        int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);
        off_t at = flags & O_APPEND ? status.st_size : syscall(SYS_lseek, fd, 0, SEEK_CUR);
        note(UNDO_WRITE, fd, path, &status, at, length);
    }
    return syscall(SYS_write, fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    char path[PATH_MAX];
    struct stat status;
    if (is_ours(fd, path, &status)) {
        size_t length = 0;
        for (int i = 0; i < count; i++)
            length += pieces[i].iov_len;
        int verdict = strike(WRITE, path);
        if (verdict != 0)
            return verdict < 0 ? -1 : (ssize_t)length;
        note(UNDO_WRITE, fd, path, &status, syscall(SYS_lseek, fd, 0, SEEK_CUR), length);
    }
    return syscall(SYS_writev, fd, pieces, count);
}

static int sync_with(long number, int fd)
{
    char path[PATH_MAX];
    struct stat status;
    int ours = is_ours(fd, path, &status);
    if (ours) {
        int verdict = strike(SYNC, path);
        if (verdict != 0)
            return verdict < 0 ? -1 : 0;
    }
    int answer = (int)syscall(number, fd);
    if (ours && answer == 0)
        note(UNDO_SYNC, fd, path, &status, 0, 0);
    return answer;
}

int fsync(int fd)
{
    return sync_with(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return sync_with(SYS_fdatasync, fd);
}

int ftruncate64(int fd, off64_t length)
{
    char path[PATH_MAX];
    struct stat status;
    if (is_ours(fd, path, &status)) {
        int verdict = strike(TRUNCATE, path);
        if (verdict != 0)
            return verdict < 0 ? -1 : 0;
        note(UNDO_TRUNCATE, fd, path, &status, length, length < status.st_size ? (size_t)(status.st_size - length) : 0);
    }
    return (int)syscall(SYS_ftruncate, fd, length);
}

int ftruncate(int fd, off_t length)
{
    return ftruncate64(fd, length);
}
