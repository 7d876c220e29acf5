# make.pl COUNT LIMIT DIRECTORY: makes COUNT files of less than LIMIT bytes, 100 to a directory and 100 directories to one
# above it, with content from the file `pool` beside this program. The same arguments make the same files.
use strict;
use warnings;
my ($count, $limit, $top) = @ARGV;
open(my $source, '<:raw', '/bench/pool') or die "pool: $!";
my $length = read($source, my $pool, 1 << 20);
my $state = 1;
# The upper bits of the linear congruential generator of POSIX's rand().
sub below { $state = ($state * 1103515245 + 12345) & 0x7fffffff; return ($state >> 8) % $_[0]; }
mkdir $top or die "$top: $!";
for my $number (0 .. $count - 1) {
    my $outer = int($number / 10000);
    my $inner = int($number / 100) % 100;
    if ($number % 10000 == 0) { mkdir "$top/$outer" or die "$outer: $!"; }
    if ($number % 100 == 0) { mkdir "$top/$outer/$inner" or die "$inner: $!"; }
    my $size = below($limit);
    my $at = below($length - $size);
    open(my $file, '>:raw', "$top/$outer/$inner/" . $number % 100) or die "$number: $!";
    syswrite($file, $pool, $size, $at);
    close $file;
}
