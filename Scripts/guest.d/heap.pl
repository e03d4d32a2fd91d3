# A second heap for a large guest: where each word stands in Perl's own modules. Reads a target in
# MiB from a line, grows until there, answers with the size.
use strict;
use warnings;

$| = 1;
my (%index, @paths, $lines);

sub resident_mib {
  open my $statm, '<', '/proc/self/statm' or die "statm: $!";
  return (split ' ', <$statm>)[1] / 256;
}

while (my $target = <STDIN>) {
  while (resident_mib() < $target) {
    @paths = glob '/usr/share/perl/*/*.pm /usr/share/perl/*/*/*.pm' unless @paths;
    my $path = shift @paths;
    open my $source, '<', $path or die "$path: $!";
    while (my $line = <$source>) {
      $lines++;
      push @{ $index{$_} }, "$path:$lines" for $line =~ /\w+/g;
    }
  }
  print resident_mib(), "\n";
}
