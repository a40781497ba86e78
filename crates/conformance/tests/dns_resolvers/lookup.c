/* Prints the addresses of each name, one line a name, as the C library's resolver finds them; "-" for none. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int count, char **names)
{
	for (int i = 1; i < count; i++) {
		struct addrinfo wanted = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
		if (getaddrinfo(names[i], NULL, &wanted, &found) != 0) {
			puts("-");
			continue;
		}
		for (; found != NULL; found = found->ai_next) {
			char text[INET6_ADDRSTRLEN];
			const void *address = &((struct sockaddr_in *)found->ai_addr)->sin_addr;
			if (found->ai_family == AF_INET6)
				address = &((struct sockaddr_in6 *)found->ai_addr)->sin6_addr;
			printf("%s ", inet_ntop(found->ai_family, address, text, sizeof text));
		}
		puts("");
	}
	return 0;
}
