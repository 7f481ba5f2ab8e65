/* Between a server and its disk, for tests: preloaded, it keeps in a second directory what the server's files would be if the machine
 * lost its power now: of each file under DISK_FAULTS_OF only what was written before its last fsync or fdatasync is in
 * DISK_FAULTS_KEPT. And each of these takes DISK_FAULTS_DELAY_MS longer, while the file DISK_FAULTS_SLOW is there.
 *
 * Names (created, renamed, removed files) count as kept at once: what a directory loses is not tried. sync_file_range, which
 * keeps nothing, is left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILES 4096

struct piece { struct piece *next; off_t at; size_t len; int cuts; char bytes[]; };
struct file { char path[512]; struct piece *first, **last; };

static struct file files[MAX_FILES];
static int count, of_fd[65536];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *of, *kept, *slow;
static long delay_ms;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    of = getenv("DISK_FAULTS_OF");
    kept = getenv("DISK_FAULTS_KEPT");
    slow = getenv("DISK_FAULTS_SLOW");
    const char *delay = getenv("DISK_FAULTS_DELAY_MS");
    delay_ms = delay ? atol(delay) : 0;
}

/* The same place in the other directory; 0 for a path that is not concerned. */
static int shadow(const char *path, char *out, size_t len) {
    if (!of || !kept || strncmp(path, of, strlen(of))) return 0;
    return snprintf(out, len, "%s%s", kept, path + strlen(of)) < (int)len;
}

static struct file *file_of(int fd) { return fd >= 0 && fd < 65536 && of_fd[fd] ? &files[of_fd[fd] - 1] : NULL; }

static void add(int fd, const void *bytes, size_t len, off_t at, int cuts) {
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    if (file) {
        struct piece *piece = malloc(sizeof *piece + len);
        *piece = (struct piece){ .at = at, .len = len, .cuts = cuts };
        if (len) memcpy(piece->bytes, bytes, len);
        *file->last = piece;
        file->last = &piece->next;
    }
    pthread_mutex_unlock(&lock);
}

/* What was written so far is safe. */
static void keep(int fd) {
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    char path[1024];
    if (file && file->first && shadow(file->path, path, sizeof path)) {
        int out = REAL(open)(path, O_WRONLY | O_CREAT, 0600);
        for (struct piece *piece = file->first, *next; piece; piece = next) {
            next = piece->next;
            if (out >= 0) {
                if (piece->cuts) REAL(ftruncate64)(out, piece->at);
                else REAL(pwrite64)(out, piece->bytes, piece->len, piece->at);
            }
            free(piece);
        }
        file->first = NULL;
        file->last = &file->first;
        if (out >= 0) REAL(close)(out);
    }
    pthread_mutex_unlock(&lock);
}

static void opened(int fd, const char *path, int flags) {
    char other[1024];
    if (fd < 0 || fd >= 65536) return;
    pthread_mutex_lock(&lock);
    of_fd[fd] = 0;
    if (shadow(path, other, sizeof other)) {
        struct stat about;
        if (!fstat(fd, &about) && S_ISREG(about.st_mode)) {
            int n = 0;
            while (n < count && strcmp(files[n].path, path)) n++;
            if (n == count && count < MAX_FILES) {
                count++;
                snprintf(files[n].path, sizeof files[n].path, "%s", path);
                files[n].last = &files[n].first;
            }
            of_fd[fd] = n < count ? n + 1 : 0;
            if (flags & O_CREAT) {
                int out = REAL(open)(other, O_WRONLY | O_CREAT | (flags & O_TRUNC), 0600);
                if (out >= 0) REAL(close)(out);
            }
        }
    }
    pthread_mutex_unlock(&lock);
}

#define OPEN(name)                                       \
    int name(const char *path, int flags, ...) {         \
        va_list more;                                    \
        va_start(more, flags);                           \
        mode_t mode = va_arg(more, mode_t);              \
        va_end(more);                                    \
        int fd = REAL(name)(path, flags, mode);          \
        opened(fd, path, flags);                         \
        return fd;                                       \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    if (fd >= 0 && fd < 65536) of_fd[fd] = 0;
    return REAL(close)(fd);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off_t at) {
    ssize_t done = REAL(pwrite64)(fd, bytes, len, at);
    if (done > 0) add(fd, bytes, done, at, 0);
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { return pwrite64(fd, bytes, len, at); }

ssize_t write(int fd, const void *bytes, size_t len) {
    off_t at = file_of(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t done = REAL(write)(fd, bytes, len);
    if (done > 0) add(fd, bytes, done, at, 0);
    return done;
}

int ftruncate64(int fd, off_t len) {
    int done = REAL(ftruncate64)(fd, len);
    if (!done) add(fd, NULL, 0, len, 1);
    return done;
}

int ftruncate(int fd, off_t len) { return ftruncate64(fd, len); }

static void linger(int fd) {
    if (file_of(fd) && slow && delay_ms && !access(slow, F_OK)) usleep(delay_ms * 1000);
}

int fdatasync(int fd) {
    linger(fd);
    int done = REAL(fdatasync)(fd);
    if (!done) keep(fd);
    return done;
}

int fsync(int fd) {
    linger(fd);
    int done = REAL(fsync)(fd);
    if (!done) keep(fd);
    return done;
}

int mkdir(const char *path, mode_t mode) {
    char other[1024];
    int done = REAL(mkdir)(path, mode);
    if (!done && shadow(path, other, sizeof other)) REAL(mkdir)(other, mode);
    return done;
}

int rename(const char *from, const char *to) {
    char a[1024], b[1024];
    int done = REAL(rename)(from, to);
    if (!done && shadow(from, a, sizeof a) && shadow(to, b, sizeof b)) {
        pthread_mutex_lock(&lock);
        for (int n = 0; n < count; n++)
            if (!strcmp(files[n].path, from)) snprintf(files[n].path, sizeof files[n].path, "%s", to);
        REAL(rename)(a, b);
        pthread_mutex_unlock(&lock);
    }
    return done;
}

int unlink(const char *path) {
    char other[1024];
    int done = REAL(unlink)(path);
    if (!done && shadow(path, other, sizeof other)) REAL(unlink)(other);
    return done;
}

int rmdir(const char *path) {
    char other[1024];
    int done = REAL(rmdir)(path);
    if (!done && shadow(path, other, sizeof other)) REAL(rmdir)(other);
    return done;
}
