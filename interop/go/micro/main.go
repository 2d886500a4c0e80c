// The official micro command, as published: its gateway, its CLI.
package main

import "github.com/micro/micro/v2/cmd"

func main() {
	cmd.Init()
}
