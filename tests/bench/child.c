/* child - the main command that init_bench starts under every init.
 *
 * As small as a program can be, so that what is measured is the init: static, no stdio, no malloc.
 * Descriptors and letters: page.h. Ends when the other side closes. */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "page.h"

static struct page *page;

static void say_done(void)
{
    if (send(PAGE_TALK, &(char){TALK_DONE}, 1, MSG_NOSIGNAL) != 1)
        _exit(1);
}

static void on_signal(int sig)
{
    (void)sig;
    page->signal_ns = page_now();
    say_done();
}

/* Makes the zombies and dies: from then on they are PID 1's. */
static void hand_over(uint32_t count)
{
    uint32_t i;
    siginfo_t info;

    for (i = 0; i < count; i++) {
        pid_t pid = fork();

        if (pid == 0)
            _exit(0);
        if (pid < 0)
            _exit(1);
        page->pids[i] = pid;
    }
    for (i = 0; i < count; i++) /* each is dead, none is collected */
        if (waitid(P_PID, (id_t)page->pids[i], &info, WEXITED | WNOWAIT) != 0)
            _exit(1);
    page->handed_ns = page_now();
    _exit(0);
}

/* There is no event for "somebody else's zombie is gone", so this spins on its pid. The order in
 * which an init reaps does not matter: the loop ends when the last is gone. */
static void zombies(void)
{
    uint32_t i, count = page->zombies;
    pid_t parent;
    int status;

    parent = fork();
    if (parent < 0)
        _exit(1);
    if (parent == 0)
        hand_over(count);
    if (waitpid(parent, &status, 0) != parent || status != 0)
        _exit(1);
    for (i = 0; i < count; i++)
        while (kill(page->pids[i], 0) == 0)
            ;
    page->gone_ns = page_now();
}

int main(void)
{
    uint64_t first_ns = page_now();
    struct sigaction on_usr1 = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    char letter;

    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, PAGE_FD, 0);
    if (page == MAP_FAILED)
        return 1;
    page->first_ns = first_ns;
    if (sigaction(SIGUSR1, &on_usr1, NULL) != 0)
        return 1;
    say_done();
    for (;;) {
        ssize_t n = recv(PAGE_TALK, &letter, 1, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n != 1)
            return 1;
        if (letter == TALK_LEAVE) {
            page->last_ns = page_now();
            _exit(0);
        }
        if (letter == TALK_ZOMBIES)
            zombies();
        say_done();
    }
}
