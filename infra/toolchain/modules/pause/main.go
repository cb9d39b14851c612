// Command pause holds the namespaces of a pod open, as the first process in them, and buries orphans of its containers.
//
// Upstream's is C. This one does the same: it ends at SIGTERM and SIGINT, and reaps at SIGCHLD.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

var version = "unknown" // set by the linker

func main() {
	said := flag.Bool("version", false, "print the version of upstream's pause that this stands for, and end")
	flag.Parse()
	if *said {
		fmt.Println("pause", version)
		return
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for reaped := 1; reaped > 0; {
			reaped, _ = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		}
	}
}
