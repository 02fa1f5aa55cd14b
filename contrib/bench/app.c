// The app of the benchmark: as small as a process can be, so that what is measured is the supervisor.
//
//   app DIARY ID                  appends "ID PID NANOSECONDS" to the diary at main(), then waits for signals
//   app DIARY ID BYTES SIZE SECS  then floods stdout in writes of SIZE (lines of 100 bytes), until BYTES or SECS are over,
//                                 appends "ID end NANOSECONDS BYTES CPU_MICROSECONDS", and waits for signals
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void note(const char *diary, const char *line, int length) {
    int fd = open(diary, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, length) != length) _exit(9);
    close(fd);
}

int main(int argc, char **argv) {
    long long began = now();
    char line[200];
    if (argc < 3) return 2;
    note(argv[1], line, snprintf(line, sizeof line, "%s %d %lld\n", argv[2], getpid(), began));
    if (argc == 6) {
        long long most = atoll(argv[3]), written = 0, until = began + atoll(argv[5]) * 1000000000LL;
        long size = atol(argv[4]);
        char *bytes = malloc(size);
        for (long at = 0; at < size; at++) bytes[at] = at % 100 == 99 || at == size - 1 ? '\n' : 'a' + at % 26;
        for (long turn = 0; written < most; turn++) {
            // The clock is asked now and then: it would be a part of what is measured.
            if (turn % 64 == 0 && now() > until) break;
            for (long at = 0; at < size;) {
                ssize_t n = write(1, bytes + at, size - at);
                if (n < 0) _exit(8);
                at += n;
            }
            written += size;
        }
        struct rusage used;
        getrusage(RUSAGE_SELF, &used);
        long long cpu = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
        note(argv[1], line, snprintf(line, sizeof line, "%s end %lld %lld %lld\n", argv[2], now(), written, cpu));
    }
    for (;;) pause();
}
