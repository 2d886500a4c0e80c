// Command netns runs a program in a network namespace of its own that has a loopback interface and an IPv4 multicast
// route, and nothing else: what mdns needs, without a packet leaving the machine. As root directly, otherwise in a
// user namespace. It needs no other tool.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"
)

const inner = "NETNS_INNER"

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("usage: netns command [arguments]"))
	}
	if os.Getenv(inner) == "" {
		os.Exit(outside())
	}
	os.Unsetenv(inner)
	if err := inside(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "netns:", err)
	os.Exit(125)
}

// outside starts this program again in the namespace, hands signals on, and returns its exit code.
func outside() int {
	// The parent-death signal follows the thread that started the child.
	runtime.LockOSThread()
	self, err := os.Executable()
	if err != nil {
		fail(err)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	command := prepare(self, os.Geteuid() != 0)
	err = command.Start()
	if errors.Is(err, syscall.EPERM) && os.Geteuid() == 0 {
		// Root of a container that may not, may still be allowed what every user is.
		command = prepare(self, true)
		err = command.Start()
	}
	if err != nil {
		fail(fmt.Errorf("no network namespace can be made here: %w", err))
	}
	go func() {
		for s := range signals {
			command.Process.Signal(s)
		}
	}()
	err = command.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal())
		}
		return exit.ExitCode()
	}
	if err != nil {
		fail(err)
	}
	return 0
}

// prepare is the command in a new network namespace, inside of a new user namespace where that is asked for.
func prepare(self string, user bool) *exec.Cmd {
	command := exec.Command(self, os.Args[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = append(os.Environ(), inner+"=1")
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if user {
		command.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return command
}

// inside brings the namespace up and becomes the program.
func inside() error {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	if err := up(socket); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	if err := route(socket); err != nil {
		return fmt.Errorf("route: %w", err)
	}
	syscall.Close(socket)
	path, err := exec.LookPath(os.Args[1])
	if err != nil {
		return err
	}
	return syscall.Exec(path, os.Args[1:], os.Environ())
}

// up sets lo's flags: ip link set lo up.
func up(socket int) error {
	request := struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}{flags: syscall.IFF_UP | syscall.IFF_RUNNING}
	copy(request.name[:], "lo")
	return ioctl(socket, syscall.SIOCSIFFLAGS, unsafe.Pointer(&request))
}

// route sends multicast to lo: ip route add 224.0.0.0/4 dev lo.
func route(socket int) error {
	type address struct {
		family uint16
		port   uint16
		ip     [4]byte
		_      [8]byte
	}
	device := [16]byte{'l', 'o'}
	// struct rtentry of linux/route.h.
	request := struct {
		_       uintptr
		to      address
		gateway address
		mask    address
		flags   uint16
		_       int16
		_       uintptr
		_       uintptr
		metric  int16
		device  *byte
		_       [3]uintptr
		_       uint16
	}{
		to:      address{family: syscall.AF_INET, ip: [4]byte{224, 0, 0, 0}},
		gateway: address{family: syscall.AF_INET},
		mask:    address{family: syscall.AF_INET, ip: [4]byte{240, 0, 0, 0}},
		flags:   syscall.RTF_UP,
		device:  &device[0],
	}
	return ioctl(socket, syscall.SIOCADDRT, unsafe.Pointer(&request))
}

func ioctl(socket int, request uintptr, argument unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(socket), request, uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}
