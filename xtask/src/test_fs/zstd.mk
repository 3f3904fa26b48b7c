# Builds zstd from its sources in lib/, and a program that uses it.
sources := $(wildcard lib/common/*.c lib/compress/*.c lib/decompress/*.c)
objects := $(sources:lib/%.c=build/%.o)

check: roundtrip
	cat $(sources) >plain
	./roundtrip <plain >again
	cmp plain again

roundtrip: build/roundtrip.o libzstd.so
	$(CC) -o $@ $< -L. -lzstd -Wl,-rpath,'$$ORIGIN'

libzstd.so: $(objects)
	$(CC) -shared -o $@ $^

build/%.o: lib/%.c
	mkdir -p $(@D)
	$(CC) -O1 -fPIC -MMD -DZSTD_DISABLE_ASM -c -o $@ $<

build/roundtrip.o: roundtrip.c
	mkdir -p $(@D)
	$(CC) -O1 -Ilib -c -o $@ $<

-include $(objects:.o=.d)
