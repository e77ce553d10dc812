/* The least that running a command for each number can cost: posix_spawn and wait, so many at a time, and nothing else.
 *
 *     spawn_loop COUNT AT_A_TIME COMMAND      runs COMMAND 1, COMMAND 2, ... */
#define _POSIX_C_SOURCE 200809L
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: spawn_loop COUNT AT_A_TIME COMMAND\n");
        return 2;
    }
    long count = atol(argv[1]), at_a_time = atol(argv[2]), running = 0;
    for (long number = 1; number <= count; number++) {
        if (running == at_a_time) {
            wait(NULL);
            running--;
        }
        char text[24];
        snprintf(text, sizeof text, "%ld", number);
        char *words[] = {argv[3], text, NULL};
        pid_t pid;
        if (posix_spawnp(&pid, argv[3], NULL, NULL, words, environ) != 0) {
            fprintf(stderr, "spawn_loop: cannot run %s\n", argv[3]);
            return 1;
        }
        running++;
    }
    while (wait(NULL) > 0) {
    }
    return 0;
}
