module interop.test/netns

go 1.21
