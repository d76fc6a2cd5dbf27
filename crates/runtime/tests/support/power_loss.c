/*
 * A shim over the C library's file calls that remembers what would survive a loss of power.
 *
 * Preloaded into one process or several, it keeps beside the data directory (POWERLOSS_ROOT) a shadow (POWERLOSS_SHADOW)
 * with only what the strictest reading of POSIX makes durable:
 *   files/<id>  the bytes of a file as of its last fsync or fdatasync
 *   dirs/<id>   the entries of a directory as of its last fsync: "type id name\n" each, type f or d
 *   inodes      what the processes know together of each inode: its reuses, what was written since its last sync
 * After the processes were killed, the test lays a directory out anew from the shadow: a file whose directory
 * was not synced is not there, a file that was not synced is empty, a rename that was not synced did not happen.
 *
 * The id of a file is its inode number and a count of the inode's reuses: "17.0". The shadow is laid out by
 * the test before the processes start, with every file there is, as "<inode>.0".
 *
 * POWERLOSS_LIE, when set, names a part of a path: an fsync of a file or directory whose path has it returns 0
 * and makes nothing durable. So the test can show that it would see a missing fsync.
 *
 * POWERLOSS_FAULT, when set, is "NUMBER KIND": of the calls below the root the one before which NUMBER others were made
 * goes wrong, and is named in the shadow's file "fault":
 *   error, full  it fails with EIO or ENOSPC; of a write half was done, and what a sync was to save no later one saves
 *   short        a read or a write does half of what was asked for, and says so
 *   killed, died the process is killed before the call, in the middle of a write; or after it
 * POWERLOSS_FAULT_FROM names the end of a path: calls are counted from the first one of it on.
 * POWERLOSS_APART, when set, makes two file systems of every two folders: no file has a second name.
 *
 * Not seen: mmap (of the programs under test only SQLite's wal-index is written that way, and it is rebuilt
 * after a crash), io_uring. copy_file_range and sendfile are refused, so that callers fall back to read and write.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 65536
#define INODES 65536 /* slots; a test makes some hundreds of files */

enum { UNKNOWN = 0, FOREIGN, FILE_HERE, DIR_HERE };

struct inode {
    ino_t ino;      /* 0: free slot */
    unsigned life;  /* how often the number was reused */
    off_t lo, hi;   /* bytes written since the last sync, as one range; lo > hi: none */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char fd_kind[FDS];
static ino_t fd_ino[FDS];
/* Shared by all processes, as an inode that one of them freed may be another's next file. */
static struct inode *inodes;
static int table = -1;
static const char *root, *shadow, *lie;
static size_t root_len;
static const char *fault, *fault_from;
static long fault_at;
static atomic_int is_armed;
static atomic_long calls;

enum fate { GOES_ON = 0, FAILS, IS_SHORT, DIES_AFTER };

#define REAL(ret, name, ...) \
    static ret (*real)(__VA_ARGS__); \
    if (!real) real = (ret(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static void fail(const char *what) {
    fprintf(stderr, "power_loss: %s: %s\n", what, strerror(errno));
    abort();
}

static int real_open(const char *path, int flags, mode_t mode) {
    REAL(int, "open64", const char *, int, mode_t);
    return real(path, flags, mode);
}

static int real_truncate(int fd, off64_t size) {
    REAL(int, "ftruncate64", int, off64_t);
    return real(fd, size);
}

/* A lock of the threads, and one of the processes that the kernel takes from one that is killed. */
static void enter(void) {
    pthread_mutex_lock(&lock);
    while (flock(table, LOCK_EX) != 0)
        if (errno != EINTR) fail("lock");
}

static void leave(void) {
    if (flock(table, LOCK_UN) != 0) fail("unlock");
    pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void begin(void) {
    root = getenv("POWERLOSS_ROOT");
    shadow = getenv("POWERLOSS_SHADOW");
    lie = getenv("POWERLOSS_LIE");
    fault = getenv("POWERLOSS_FAULT");
    fault_from = getenv("POWERLOSS_FAULT_FROM");
    is_armed = !fault_from;
    root_len = root ? strlen(root) : 0;
    if (!root || !shadow) return;
    if (fault) {
        char *kind;
        fault_at = strtol(fault, &kind, 10);
        fault = *kind ? kind + 1 : "";
    }
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/inodes", shadow);
    size_t size = INODES * sizeof *inodes;
    table = real_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    /* A new file reads as zeros, all slots free; one that is there keeps what it has. */
    if (table < 0 || real_truncate(table, size) != 0) fail(path);
    inodes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, table, 0);
    if (inodes == MAP_FAILED) fail(path);
}

static int under_root(const char *path) {
    return root && shadow && strncmp(path, root, root_len) == 0 && (path[root_len] == 0 || path[root_len] == '/');
}

static int fd_path(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return 1;
}

static int kind_of(int fd) {
    if (fd < 0 || fd >= FDS || !root) return FOREIGN;
    if (fd_kind[fd] != UNKNOWN) return fd_kind[fd];
    char path[PATH_MAX];
    struct stat st;
    int kind = FOREIGN;
    if (fd_path(fd, path) && under_root(path) && fstat(fd, &st) == 0) {
        if (S_ISREG(st.st_mode)) kind = FILE_HERE;
        if (S_ISDIR(st.st_mode)) kind = DIR_HERE;
        fd_ino[fd] = st.st_ino;
    }
    return fd_kind[fd] = kind;
}

static void forget(int fd) {
    if (fd >= 0 && fd < FDS) fd_kind[fd] = UNKNOWN;
}

/* The slot of an inode; the lock is held. */
static struct inode *slot(ino_t ino) {
    for (size_t i = ino % INODES, n = 0; n < INODES; i = (i + 1) % INODES, n++) {
        if (inodes[i].ino == ino) return &inodes[i];
        if (inodes[i].ino == 0) {
            inodes[i] = (struct inode){.ino = ino, .life = 0, .lo = 1, .hi = 0};
            return &inodes[i];
        }
    }
    fail("too many inodes");
    return NULL;
}

typedef ssize_t (*pwrite_fn)(int, const void *, size_t, off64_t);
static ssize_t real_pwrite(int fd, const void *data, size_t n, off64_t at) {
    static pwrite_fn real;
    if (!real) real = (pwrite_fn)dlsym(RTLD_NEXT, "pwrite64");
    return real(fd, data, n, at);
}

static void real_close(int fd) {
    REAL(int, "close", int);
    real(fd);
}

static void die(void) {
    for (;;) raise(SIGKILL);
}

/* Counts a call of a path and says what becomes of it. */
static enum fate fate_of(const char *call, const char *path) {
    if (!fault || !under_root(path)) return GOES_ON;
    if (!is_armed) {
        size_t n = strlen(path), end = strlen(fault_from);
        if (n >= end && !strcmp(path + n - end, fault_from)) is_armed = 1;
        return GOES_ON;
    }
    if (atomic_fetch_add(&calls, 1) != fault_at) return GOES_ON;
    char note[PATH_MAX], text[2 * PATH_MAX];
    snprintf(note, sizeof note, "%s/fault", shadow);
    int out = real_open(note, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int n = snprintf(text, sizeof text, "%s %s", call, path + root_len);
    if (out < 0 || real_pwrite(out, text, n, 0) != n) fail(note);
    real_close(out);
    if (!strcmp(fault, "short")) return IS_SHORT;
    if (!strcmp(fault, "died")) return DIES_AFTER;
    int is_write = strstr(call, "write") != NULL;
    if (!strcmp(fault, "killed") && !is_write) die();
    errno = strcmp(fault, "full") ? EIO : ENOSPC;
    return FAILS;
}

static enum fate fate_at(const char *call, int fd) {
    char path[PATH_MAX];
    int keep = errno;
    if (!fault || kind_of(fd) == FOREIGN || !fd_path(fd, path)) return errno = keep, GOES_ON;
    return fate_of(call, path);
}

/* What is left of a call once it was made. */
static void after(enum fate fate) {
    if (fate == DIES_AFTER) die();
}

/* A write of which half was done before it failed. */
static ssize_t broke_off(void) {
    if (!strcmp(fault, "killed")) die();
    errno = strcmp(fault, "full") ? EIO : ENOSPC;
    return -1;
}

static size_t part_of(enum fate fate, size_t n) { return fate == FAILS || fate == IS_SHORT ? (n + 1) / 2 : n; }

static void born(const char *path) {
    struct stat st;
    if (lstat(path, &st) != 0) return;
    enter();
    struct inode *it = slot(st.st_ino);
    it->life++;
    it->lo = 1, it->hi = 0;
    leave();
}

static void dirty(int fd, off_t lo, off_t hi) {
    if (hi <= lo) return;
    enter();
    struct inode *it = slot(fd_ino[fd]);
    if (it->lo > it->hi) {
        it->lo = lo, it->hi = hi;
    } else {
        if (lo < it->lo) it->lo = lo;
        if (hi > it->hi) it->hi = hi;
    }
    leave();
}

static void shadow_path(char *out, const char *what, const struct inode *it) {
    snprintf(out, PATH_MAX, "%s/%s/%lu.%u", shadow, what, (unsigned long)it->ino, it->life);
}

static ssize_t real_pread(int fd, void *data, size_t n, off64_t at) {
    REAL(ssize_t, "pread64", int, void *, size_t, off64_t);
    return real(fd, data, n, at);
}

static void sync_file(int fd) {
    char own[64], path[PATH_MAX];
    struct stat st;
    enter();
    struct inode *it = slot(fd_ino[fd]);
    shadow_path(path, "files", it);
    /* Opened anew, since the descriptor may be for writing only. */
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
    int from = real_open(own, O_RDONLY | O_CLOEXEC, 0), to = real_open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (from < 0 || to < 0 || fstat(from, &st) != 0) fail(path);
    static char buffer[1 << 20];
    for (off_t at = it->lo; at < it->hi && at < st.st_size;) {
        size_t want = sizeof buffer;
        if (it->hi - at < (off_t)want) want = it->hi - at;
        ssize_t n = real_pread(from, buffer, want, at);
        if (n < 0) fail("read");
        if (n == 0) break;
        if (real_pwrite(to, buffer, n, at) != n) fail("write");
        at += n;
    }
    if (real_truncate(to, st.st_size) != 0) fail("truncate");
    it->lo = 1, it->hi = 0;
    real_close(from);
    real_close(to);
    leave();
}

static void sync_dir(int fd) {
    char path[PATH_MAX], temporary[PATH_MAX + 8], own[64];
    enter();
    shadow_path(path, "dirs", slot(fd_ino[fd]));
    snprintf(temporary, sizeof temporary, "%s.new", path);
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
    DIR *dir = opendir(own);
    FILE *out = fopen(temporary, "we");
    if (!dir || !out) fail(temporary);
    struct dirent *entry;
    while ((entry = readdir(dir))) {
        struct stat st;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue; /* removed meanwhile */
        struct inode *it = slot(st.st_ino);
        fprintf(out, "%c %lu.%u %s\n", S_ISDIR(st.st_mode) ? 'd' : 'f', (unsigned long)it->ino, it->life, entry->d_name);
    }
    closedir(dir);
    if (fclose(out) != 0 || rename(temporary, path) != 0) fail(path);
    leave();
}

static int lied_to(int fd) {
    char path[PATH_MAX];
    return lie && *lie && fd_path(fd, path) && strstr(path, lie);
}

/* After it failed, what was written is not saved by a later one either: so it is on Linux. */
static int durable(int fd, int (*real)(int)) {
    int kind = kind_of(fd);
    if (kind == FOREIGN) return real(fd);
    enum fate fate = fate_at("sync", fd);
    if (fate == FAILS) {
        enter();
        struct inode *it = slot(fd_ino[fd]);
        it->lo = 1, it->hi = 0;
        leave();
        return -1;
    }
    if (!lied_to(fd)) kind == FILE_HERE ? sync_file(fd) : sync_dir(fd);
    after(fate);
    return 0;
}

int fsync(int fd) {
    REAL(int, "fsync", int);
    return durable(fd, real);
}

int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    return durable(fd, real);
}

static void wrote(int fd, ssize_t n) {
    if (n > 0 && kind_of(fd) == FILE_HERE) {
        int keep = errno;
        off_t end = lseek(fd, 0, SEEK_CUR);
        dirty(fd, end - n, end);
        errno = keep;
    }
}

ssize_t write(int fd, const void *data, size_t n) {
    REAL(ssize_t, "write", int, const void *, size_t);
    enum fate fate = fate_at("write", fd);
    ssize_t done = real(fd, data, part_of(fate, n));
    wrote(fd, done);
    after(fate);
    return fate == FAILS ? broke_off() : done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    enum fate fate = fate_at("writev", fd);
    ssize_t done = real(fd, parts, part_of(fate, count));
    wrote(fd, done);
    after(fate);
    return fate == FAILS ? broke_off() : done;
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    enum fate fate = fate_at("pwrite", fd);
    ssize_t done = real_pwrite(fd, data, part_of(fate, n), at);
    if (done > 0 && kind_of(fd) == FILE_HERE) dirty(fd, at, at + done);
    after(fate);
    return fate == FAILS ? broke_off() : done;
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { return pwrite64(fd, data, n, at); }

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    REAL(ssize_t, "pwritev64", int, const struct iovec *, int, off64_t);
    ssize_t done = real(fd, parts, count, at);
    if (done > 0 && kind_of(fd) == FILE_HERE) dirty(fd, at, at + done);
    return done;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return pwritev64(fd, parts, count, at); }

int ftruncate64(int fd, off64_t size) {
    struct stat st = {0};
    int here = kind_of(fd) == FILE_HERE && fstat(fd, &st) == 0;
    enum fate fate = fate_at("truncate", fd);
    if (fate == FAILS) return -1;
    int answer = real_truncate(fd, size);
    /* What lies between both sizes reads as zeros, or is gone, from the next sync on. */
    if (answer == 0 && here) dirty(fd, size < st.st_size ? size : st.st_size, size < st.st_size ? st.st_size : size);
    after(fate);
    return answer;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int fallocate64(int fd, int mode, off64_t at, off64_t length) {
    REAL(int, "fallocate64", int, int, off64_t, off64_t);
    int answer = real(fd, mode, at, length);
    if (answer == 0 && kind_of(fd) == FILE_HERE) dirty(fd, at, at + length);
    return answer;
}

int fallocate(int fd, int mode, off_t at, off_t length) { return fallocate64(fd, mode, at, length); }

int posix_fallocate64(int fd, off64_t at, off64_t length) { return fallocate64(fd, 0, at, length) == 0 ? 0 : errno; }

int posix_fallocate(int fd, off_t at, off_t length) { return posix_fallocate64(fd, at, length); }

ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t n, unsigned flags) {
    (void)in, (void)in_at, (void)out, (void)out_at, (void)n, (void)flags;
    errno = ENOSYS;
    return -1;
}

ssize_t sendfile64(int out, int in, off64_t *at, size_t n) {
    (void)out, (void)in, (void)at, (void)n;
    errno = ENOSYS;
    return -1;
}

ssize_t sendfile(int out, int in, off_t *at, size_t n) { return sendfile64(out, in, at, n); }

static int opened(const char *path, int flags, int existed, int fd) {
    if (fd < 0) return fd;
    forget(fd);
    if (kind_of(fd) != FILE_HERE) return fd;
    if ((flags & O_CREAT) && !existed) born(path);
    /* The old content survives until the empty file is synced, the range then covers nothing: only the size goes. */
    return fd;
}

int open64(const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    enum fate fate = fate_of("open", path);
    if (fate == FAILS) return -1;
    int existed = (flags & O_CREAT) ? access(path, F_OK) == 0 : 1;
    int fd = opened(path, flags, existed, real_open(path, flags, mode));
    after(fate);
    return fd;
}

int open(const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    return open64(path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...) {
    REAL(int, "openat64", int, const char *, int, mode_t);
    mode_t mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    if ((flags & O_CREAT) && dir != AT_FDCWD && path[0] != '/') {
        fprintf(stderr, "power_loss: openat with O_CREAT below a directory is not followed\n");
        abort();
    }
    int existed = (flags & O_CREAT) ? access(path, F_OK) == 0 : 1;
    return opened(path, flags, existed, real(dir, path, flags, mode));
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    enum fate fate = fate_of("mkdir", path);
    if (fate == FAILS) return -1;
    int answer = real(path, mode);
    char full[PATH_MAX];
    if (answer == 0 && realpath(path, full) && under_root(full)) born(full);
    after(fate);
    return answer;
}

/* Calls that a shadow need not follow: which names there are is looked at when their directory is synced. */
int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    enum fate fate = fate_of("rename", to);
    if (fate == FAILS) return -1;
    int answer = real(from, to);
    after(fate);
    return answer;
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    enum fate fate = fate_of("link", to);
    if (fate == FAILS) return -1;
    if (getenv("POWERLOSS_APART")) return errno = EXDEV, -1;
    int answer = real(from_dir, from, to_dir, to, flags);
    after(fate);
    return answer;
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    enum fate fate = fate_of("unlink", path);
    if (fate == FAILS) return -1;
    int answer = real(path);
    after(fate);
    return answer;
}

int unlinkat(int dir, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    enum fate fate = dir == AT_FDCWD ? fate_of("unlink", path) : fate_at("unlink", dir);
    if (fate == FAILS) return -1;
    int answer = real(dir, path, flags);
    after(fate);
    return answer;
}

int rmdir(const char *path) {
    REAL(int, "rmdir", const char *);
    enum fate fate = fate_of("rmdir", path);
    if (fate == FAILS) return -1;
    int answer = real(path);
    after(fate);
    return answer;
}

ssize_t read(int fd, void *data, size_t n) {
    REAL(ssize_t, "read", int, void *, size_t);
    enum fate fate = fate_at("read", fd);
    if (fate == FAILS) return -1;
    ssize_t done = real(fd, data, part_of(fate, n));
    after(fate);
    return done;
}

ssize_t pread64(int fd, void *data, size_t n, off64_t at) {
    enum fate fate = fate_at("read", fd);
    if (fate == FAILS) return -1;
    ssize_t done = real_pread(fd, data, part_of(fate, n), at);
    after(fate);
    return done;
}

ssize_t pread(int fd, void *data, size_t n, off_t at) { return pread64(fd, data, n, at); }

int close(int fd) {
    REAL(int, "close", int);
    forget(fd);
    return real(fd);
}

int dup2(int from, int to) {
    REAL(int, "dup2", int, int);
    forget(to);
    return real(from, to);
}

int dup3(int from, int to, int flags) {
    REAL(int, "dup3", int, int, int);
    forget(to);
    return real(from, to, flags);
}
