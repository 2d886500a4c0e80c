package main

import (
	"context"
	"flag"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"interop.test/peer/gomicro"
)

// Greeter of the benchmark: one unary method over plain JSON structs.
type Greeter struct{}

func (g *Greeter) Hello(ctx context.Context, in *HelloRequest, out *HelloResponse) error {
	out.Msg = "Hello " + in.Name
	return nil
}

func (g *Greeter) Echo(ctx context.Context, in *EchoMessage, out *EchoMessage) error {
	*out = *in
	return nil
}

// Count is fast and sound only in raw frames, see Plain.Burst.
func (g *Greeter) Count(ctx context.Context, stream gomicro.ServerStream) error {
	return (&Plain{}).Burst(ctx, stream)
}

func runBenchServer(arguments []string) error {
	flags := newFlags("bench-server")
	address := flags.String("address", "127.0.0.1:0", "address to listen on")
	limit := flags.Duration("limit", 10*time.Minute, "end after this time")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	watchdog(*limit)
	var service gomicro.Service
	service = gomicro.NewService(
		"application/json",
		gomicro.Name("greeter"),
		gomicro.Address(*address),
		gomicro.UseRegistry(gomicro.MemoryRegistry()),
		gomicro.AfterStart(func() error {
			report(map[string]interface{}{"ready": true, "address": service.Server().Options().Address, "goMicro": gomicro.Version})
			return nil
		}),
	)
	service.Init()
	if err := gomicro.RegisterHandler(service.Server(), &Greeter{}); err != nil {
		return err
	}
	return service.Run()
}

func runBenchClient(arguments []string) error {
	flags := newFlags("bench-client")
	address := flags.String("address", "", "address of the server")
	load := loadFlags(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	load.watchdog()
	service := gomicro.NewService("application/json", gomicro.Name("bench-client"), gomicro.UseRegistry(gomicro.MemoryRegistry()))
	service.Init()
	client := service.Client()
	kibibyte := strings.Repeat("x", 1024)
	once := map[string]func() error{
		"hello": func() error {
			var out HelloResponse
			request := gomicro.NewRequest("greeter", "Greeter.Hello", &HelloRequest{Name: "John"}, "application/json", false)
			return client.Call(context.Background(), request, &out, gomicro.CallAddress(*address))
		},
		"echo": func() error {
			var out EchoMessage
			request := gomicro.NewRequest("greeter", "Greeter.Echo", &EchoMessage{Text: kibibyte}, "application/json", false)
			return client.Call(context.Background(), request, &out, gomicro.CallAddress(*address))
		},
		"count": func() error {
			request := gomicro.NewRequest("greeter", "Greeter.Count", &None{}, "application/json", true)
			stream, err := client.Stream(context.Background(), request, gomicro.CallAddress(*address))
			if err != nil {
				return err
			}
			defer stream.Close()
			if err := stream.Send(&CountRequest{To: 1000}); err != nil {
				return err
			}
			for i := 0; i < 1000; i++ {
				var number Number
				if err := stream.Recv(&number); err != nil {
					return err
				}
			}
			return nil
		},
	}[*load.scenario]
	load.run(once)
	return nil
}

// load is a number of callers that call for a time.
type load struct {
	scenario *string
	inFlight *int
	duration *time.Duration
	warm     *time.Duration
}

func loadFlags(flags *flag.FlagSet) *load {
	return &load{
		scenario: flags.String("scenario", "hello", "hello, echo (1 KiB) or count (1000 items a stream)"),
		inFlight: flags.Int("in-flight", 1, "calls in flight"),
		duration: flags.Duration("time", 3*time.Second, "how long to measure"),
		warm:     flags.Duration("warm", 500*time.Millisecond, "how long to warm up"),
	}
}

func (l *load) watchdog() { watchdog(*l.duration + *l.warm + 60*time.Second) }

// run calls, and reports.
func (l *load) run(once func() error) {
	var calls, failed, every int64
	var measuring int32
	stop := make(chan struct{})
	times := make([][]float64, *l.inFlight)
	var group sync.WaitGroup
	for i := 0; i < *l.inFlight; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				counted := atomic.LoadInt32(&measuring) == 1
				started := time.Now()
				err := once()
				atomic.AddInt64(&every, 1)
				if !counted {
					continue
				}
				if err != nil {
					atomic.AddInt64(&failed, 1)
					continue
				}
				atomic.AddInt64(&calls, 1)
				times[i] = append(times[i], float64(time.Since(started).Nanoseconds())/1e6)
			}
		}(i)
	}
	time.Sleep(*l.warm)
	used, started := cpuTime(), time.Now()
	atomic.StoreInt32(&measuring, 1)
	time.Sleep(*l.duration)
	finished, seconds := atomic.LoadInt64(&calls), time.Since(started).Seconds()
	used = cpuTime() - used
	close(stop)
	group.Wait()
	var all []float64
	for _, some := range times {
		all = append(all, some...)
	}
	sort.Float64s(all)
	quantile := func(q float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return all[int(q*float64(len(all)-1))]
	}
	report(map[string]interface{}{
		"ok": failed == 0, "calls": finished, "failed": failed, "seconds": seconds, "perSecond": float64(finished) / seconds,
		"p50": quantile(0.5), "p99": quantile(0.99), "goMicro": gomicro.Version,
		// Warming up included: what the server has answered in all.
		"every": atomic.LoadInt64(&every), "cpuMs": used,
	})
}

// cpuTime is what this process has used so far, in milliseconds.
func cpuTime() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e6
}
