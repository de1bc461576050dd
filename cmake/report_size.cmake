# cmake -DFILE=<library> -DARCHITECTURES=<list> -P report_size.cmake
file(SIZE "${FILE}" bytes)
math(EXPR tenths "${bytes} * 10 / 1048576")
math(EXPR whole "${tenths} / 10")
math(EXPR tenth "${tenths} % 10")
get_filename_component(name "${FILE}" NAME)
string(REPLACE "," " " architectures "${ARCHITECTURES}")
message(STATUS "${name}: ${whole}.${tenth} MiB for ${architectures}")
