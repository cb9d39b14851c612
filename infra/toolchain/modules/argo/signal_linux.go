// Package osspecific: the file for Linux that workflow/executor/osspecific lacks in the module as it is served.
//
// argoexec's emissary command is the first process of a step's container. It runs the step's own command as its child,
// forwards signals to it, and ends with its exit status.
package osspecific

import (
	"os"
	"syscall"

	"github.com/argoproj/argo-workflows/v3/util/errors"
)

// Term is the signal that asks a step to end.
var Term = syscall.SIGTERM

// CanIgnoreSignal tells signals that are for the emissary itself: a child's end, and the preemption of Go's runtime.
func CanIgnoreSignal(received os.Signal) bool {
	return received == syscall.SIGCHLD || received == syscall.SIGURG
}

// Kill signals the command and all that it has started: StartCommand makes it the leader of a process group.
func Kill(pid int, signal syscall.Signal) error {
	return syscall.Kill(-pid, signal)
}

// Setpgid makes the command about to be started the leader of a process group.
func Setpgid(attributes *syscall.SysProcAttr) {
	attributes.Setpgid = true
}

// Wait returns once the command has ended: nil for status 0, else its exit status, which is 128 and the signal's number
// where a signal ended it, as a shell says it.
//
// What the command leaves behind becomes a child of the emissary, as the first process, and is buried here meanwhile.
func Wait(command *os.Process) error {
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR || err == nil && ended != command.Pid:
			continue
		case err != nil:
			return err
		case status.Signaled():
			return errors.NewExitErr(128 + int(status.Signal()))
		default:
			return errors.NewExitErr(status.ExitStatus())
		}
	}
}
