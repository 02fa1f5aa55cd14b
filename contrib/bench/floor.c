// The floor: the least that a supervisor of processes with logs can be. No policy, no records, no control, no recovery. It starts
// what a list says, moves their output to files by splice, and starts at once whatever ends.
//
//   floor LIST LOGS    LIST: one command a line, words parted by blanks; output of line N goes to LOGS/N.out and LOGS/N.err
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 1024
#define WORDS 16

static struct app {
    char *words[WORDS + 1];
    pid_t pid;
    int pipes[2], files[2];
} apps[MOST];
static int count, epoll, null;
static sigset_t watched;
static struct rlimit limit;

static void die(const char *step) {
    perror(step);
    exit(1);
}

static void start(int n) {
    struct app *app = &apps[n];
    int ends[2];
    for (int s = 0; s < 2; s++) {
        int pair[2];
        if (pipe2(pair, O_CLOEXEC) < 0) die("pipe2");
        fcntl(pair[0], F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = n * 2 + s};
        epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &event);
        app->pipes[s] = pair[0];
        ends[s] = pair[1];
    }
    app->pid = vfork();
    if (app->pid < 0) die("vfork");
    if (app->pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setrlimit(RLIMIT_NOFILE, &limit);
        setsid();
        dup2(null, 0);
        dup2(ends[0], 1);
        dup2(ends[1], 2);
        execv(app->words[0], app->words);
        _exit(127);
    }
    close(ends[0]);
    close(ends[1]);
}

// Moves what a pipe holds; `all`: its writer has ended, so to its end.
static void move(int n, int s, int all) {
    struct app *app = &apps[n];
    ssize_t moved;
    do moved = splice(app->pipes[s], NULL, app->files[s], NULL, 1 << 20, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    while (all && moved > 0);
}

static void read_list(const char *path, const char *logs) {
    FILE *list = fopen(path, "r");
    char *line = NULL, name[4096];
    size_t room = 0;
    if (!list) die(path);
    while (count < MOST && getline(&line, &room, list) > 0) {
        char *rest = line;
        for (int w = 0; w < WORDS && (apps[count].words[w] = strtok_r(NULL, " \n", &rest)); w++) {}
        line = NULL;
        for (int s = 0; s < 2; s++) {
            snprintf(name, sizeof name, "%s/%d.%s", logs, count, s ? "err" : "out");
            apps[count].files[s] = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
            if (apps[count].files[s] < 0 || lseek(apps[count].files[s], 0, SEEK_END) < 0) die(name);
        }
        count++;
    }
    fclose(list);
}

static void reap(void) {
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
        for (int n = 0; n < count; n++) {
            if (apps[n].pid != pid) continue;
            for (int s = 0; s < 2; s++) {
                move(n, s, 1);
                close(apps[n].pipes[s]);
            }
            start(n);
            break;
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    getrlimit(RLIMIT_NOFILE, &limit);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){limit.rlim_max, limit.rlim_max});
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    sigaddset(&watched, SIGTERM);
    sigprocmask(SIG_BLOCK, &watched, NULL);
    int signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (signals < 0 || epoll < 0 || null < 0) die("begin");
    epoll_ctl(epoll, EPOLL_CTL_ADD, signals, &(struct epoll_event){.events = EPOLLIN, .data.u32 = UINT32_MAX});
    read_list(argv[1], argv[2]);
    for (int n = 0; n < count; n++) start(n);
    for (;;) {
        struct epoll_event events[64];
        int ready = epoll_wait(epoll, events, 64, -1), died = 0;
        for (int e = 0; e < ready; e++) {
            unsigned token = events[e].data.u32;
            if (token == UINT32_MAX) died = 1;
            else move(token / 2, token % 2, 0);
        }
        struct signalfd_siginfo info;
        while (died && read(signals, &info, sizeof info) == sizeof info) {
            if (info.ssi_signo != SIGTERM) continue;
            for (int n = 0; n < count; n++) kill(apps[n].pid, SIGKILL);
            return 0;
        }
        if (died) reap();
    }
}
