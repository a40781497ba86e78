// Prints the addresses of each name, one line a name, as Go's own resolver finds them; "-" for none.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	for _, name := range os.Args[1:] {
		found, err := net.DefaultResolver.LookupHost(context.Background(), name)
		if err != nil {
			found = []string{"-"}
		}
		fmt.Println(strings.Join(found, " "))
	}
}
