// An app that leaks, for the benchmark of memory caps. It keeps a diary of its own, in the form of app.c.
//
//   leak DIARY ID CAP RATE MOST   takes RATE MiB/s, or at once where RATE is 0, up to MOST MiB. At SIGINT it appends
//                                 "ID int NANOSECONDS USAGE CROSSED" (bytes; when USAGE came to CAP MiB) and ends. USAGE is what the
//                                 kernel counts for its group, where stead made it one, else what it took
//   leak DIARY ID tree            has two children, and waits with them
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MIB (1L << 20)
#define STEP (MIB / 4)

static volatile long taken;
static int counter = -1;
static volatile long long crossed;
static const char *diary, *id;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void note(const char *line, int length) {
    int fd = open(diary, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, length) != length) _exit(9);
    close(fd);
}

// "…:memory:/PATH" is of v1, "0::/PATH" of v2.
static void find_counter(void) {
    char line[600], path[900];
    FILE *groups = fopen("/proc/self/cgroup", "r");
    while (groups && fgets(line, sizeof line, groups)) {
        char *at = strstr(line, ":memory:"), *is_v2 = strncmp(line, "0::", 3) ? NULL : line;
        line[strcspn(line, "\n")] = 0;
        if (!strstr(line, "/stead-") || !(at || is_v2)) continue;
        if (at) snprintf(path, sizeof path, "/sys/fs/cgroup/memory%s/memory.usage_in_bytes", at + 8);
        else snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.current", line + 3);
        if (counter < 0) counter = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (groups) fclose(groups);
}

static long usage(void) {
    char text[30] = "";
    return counter >= 0 && pread(counter, text, sizeof text - 1, 0) > 0 ? atol(text) : taken;
}

// Nothing that it interrupts matters any more, so stdio is as good here as anywhere.
static void on_int(int number) {
    long long at = now();
    long used = usage();
    char line[200];
    (void)number;
    note(line, snprintf(line, sizeof line, "%s int %lld %ld %lld\n", id, at, used, crossed ? crossed : at));
    _exit(0);
}

// Filled in by the kernel: page by page a guest could not leak that fast.
static void take(long cap) {
    if (mmap(NULL, STEP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0) == MAP_FAILED) _exit(7);
    taken += STEP;
    if (!crossed && usage() >= cap) crossed = now();
}

int main(int argc, char **argv) {
    long long began = now();
    char line[200];
    if (argc < 4) return 2;
    diary = argv[1], id = argv[2];
    if (argc == 6) signal(SIGINT, on_int);
    find_counter();
    note(line, snprintf(line, sizeof line, "%s %d %lld\n", id, getpid(), began));
    if (argc == 6) {
        long cap = atol(argv[3]) * MIB, rate = atol(argv[4]) * MIB, most = atol(argv[5]) * MIB;
        while (taken < most) {
            double due = rate ? rate * ((now() - began) / 1e9) : most;
            while (taken < most && taken < due) take(cap);
            struct timespec pause = {0, 1000000};
            nanosleep(&pause, NULL);
        }
    } else if (fork() != 0) {
        fork();
    }
    for (;;) pause();
}
